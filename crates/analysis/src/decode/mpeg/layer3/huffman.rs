//! Decodes the lines of a granule: coded in pairs, then in fours of 0 and ±1, then zeros (ISO/IEC 11172-3, 2.4.3.4.6).

use std::sync::LazyLock;

use super::{
    bands::{Layout, MAX_BANDS},
    codes::{EXTRA_BITS, PAIRS, Pairs, QUADS},
    side::{Granule, LINES},
};
use crate::decode::bits::Bits;

/// Code bits used for the first lookup.
const ROOT_BITS: u32 = 8;

/// The largest value that a code can express; extra bits may be added to it.
const ESCAPE: usize = 15;

/// Number of values, including the largest number of extra bits.
const VALUES: usize = ESCAPE + (1 << 13);

/// x^(4/3)
static POWERS: LazyLock<Vec<f32>> =
    LazyLock::new(|| (0..VALUES).map(|value| (value as f64).powf(4.0 / 3.0) as f32).collect());

static TABLES: LazyLock<Tables> = LazyLock::new(Tables::new);

/// Codes, looked up by the next bits of the stream.
struct Tables {
    /// Lookup of each table number; none if all values are 0 and take no bits.
    pairs: [Option<usize>; 32],
    lookups: Vec<Lookup>,
    quads: [[Entry; 1 << QUAD_BITS]; 2],
}

/// Length of the longest code for four values.
const QUAD_BITS: u32 = 6;

/// Result of a lookup.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// Length of the code in bits. 0 for longer codes: then `value` is the start of a second-level table for this prefix,
    /// and `more` the number of bits that index it.
    length: u8,
    more: u8,
    /// Two values of four bits each, the second in the upper half.
    value: u16,
}

impl Pairs {
    /// The two values of a code in the format of [`Entry`].
    fn value(&self, at: usize) -> usize {
        let (first, second) = (at / self.side, at % self.side);
        first | second << 4
    }
}

/// Indexed by the first [`ROOT_BITS`], with second-level tables for the bits after them.
struct Lookup(Vec<Entry>);

impl Lookup {
    fn new(pairs: &Pairs) -> Self {
        let longest_like = |root: usize| {
            let lengths =
                pairs.codes.iter().map(|&code| (code, code.ilog2())).filter(|&(_, length)| length > ROOT_BITS);
            lengths
                .filter(|&(code, length)| (code - (1 << length)) as usize >> (length - ROOT_BITS) == root)
                .map(|(_, length)| length)
                .max()
        };
        let mut entries = vec![Entry::default(); 1 << ROOT_BITS];
        for root in 0..1 << ROOT_BITS {
            if let Some(longest) = longest_like(root) {
                let more = longest - ROOT_BITS;
                entries[root] = Entry { length: 0, more: more as u8, value: entries.len() as u16 };
                entries.resize(entries.len() + (1 << more), Entry::default());
            }
        }
        for (at, &code) in pairs.codes.iter().enumerate() {
            let (length, value) = (code.ilog2(), pairs.value(at));
            let code = (code - (1 << length)) as usize;
            let (start, bits, digits) = if length <= ROOT_BITS {
                (0, ROOT_BITS, code)
            } else {
                let link = entries[code >> (length - ROOT_BITS)];
                let rest = length - ROOT_BITS;
                (usize::from(link.value), u32::from(link.more) + ROOT_BITS, code & ((1 << rest) - 1))
            };
            let first = start + (digits << (bits - length));
            entries[first..first + (1 << (bits - length))].fill(Entry {
                length: length as u8,
                more: 0,
                value: value as u16,
            });
        }
        Self(entries)
    }

    #[inline(always)]
    fn find(&self, bits: u64) -> Entry {
        let entry = self.0[(bits >> (64 - ROOT_BITS)) as usize];
        if entry.length > 0 {
            return entry;
        }
        let rest = bits << ROOT_BITS >> (63 - entry.more) >> 1;
        self.0[usize::from(entry.value) + rest as usize]
    }
}

impl Tables {
    fn new() -> Self {
        let mut pairs = [None; 32];
        for (at, &(number, _)) in PAIRS.iter().enumerate() {
            let same = if number >= 16 { 8 } else { 1 };
            pairs[number..number + same].fill(Some(at));
        }
        let quads = QUADS.map(|codes| {
            let mut entries = [Entry::default(); 1 << QUAD_BITS];
            for (value, code) in codes.into_iter().enumerate() {
                let length = code.ilog2();
                let first = ((code - (1 << length)) << (QUAD_BITS - length)) as usize;
                entries[first..first + (1 << (QUAD_BITS - length))].fill(Entry {
                    length: length as u8,
                    more: 0,
                    value: value as u16,
                });
            }
            entries
        });
        Self { pairs, lookups: PAIRS.iter().map(|(_, pairs)| Lookup::new(pairs)).collect(), quads }
    }
}

/// Reads the lines of a granule up to bit `end`, each scaled by its band's gain; the remaining lines are 0. Returns the
/// number of coded lines.
#[inline(always)]
pub(super) fn read(
    bits: &mut Bits,
    end: usize,
    granule: &Granule,
    layout: &Layout,
    gains: &[f32; MAX_BANDS],
    lines: &mut [f32; LINES],
) -> usize {
    let (tables, powers) = (&*TABLES, POWERS.as_slice());
    let last = layout.ends.len() - 1;
    let region_ends = match granule.region_bands {
        Some([first, second]) => [layout.ends[(first - 1).min(last)], layout.ends[(first + second - 1).min(last)]],
        None => [layout.first_region, LINES],
    };
    let (mut line, mut band, mut region) = (0, 0, 0);
    while line < granule.paired {
        while layout.ends[band] <= line {
            band += 1;
        }
        while region < 2 && region_ends[region] <= line {
            region += 1;
        }
        let region_end = region_ends.get(region).copied().unwrap_or(LINES);
        let stop = layout.ends[band].min(region_end).min(granule.paired);
        let pairs = &mut lines[line..stop];
        let table = granule.tables[region];
        match tables.pairs[table] {
            Some(lookup) if EXTRA_BITS[table] > 0 => {
                read_pairs::<true>(bits, &tables.lookups[lookup], EXTRA_BITS[table], powers, gains[band], pairs);
            }
            Some(lookup) => read_pairs::<false>(bits, &tables.lookups[lookup], 0, powers, gains[band], pairs),
            None => pairs.fill(0.0),
        }
        if bits.at > end {
            // Damaged: this already reads the next granule's bits.
            break;
        }
        line = stop;
    }
    let quads = &tables.quads[granule.quad_table];
    while line + 4 <= LINES && bits.at < end {
        let mut next = bits.peek();
        let entry = quads[(next >> (64 - QUAD_BITS)) as usize];
        next <<= entry.length;
        let value = usize::from(entry.value);
        bits.at += usize::from(entry.length) + value.count_ones() as usize;
        if bits.at > end {
            break;
        }
        for pair in 0..2 {
            while layout.ends[band] <= line {
                band += 1;
            }
            for bit in [3 - 2 * pair, 2 - 2 * pair] {
                let is_one = value >> bit & 1;
                lines[line] = signed([0.0, gains[band]][is_one], next);
                next <<= is_one;
                line += 1;
            }
        }
    }
    lines[line..].fill(0.0);
    line
}

/// Applies the sign in the next bit to a number.
#[inline(always)]
fn signed(number: f32, next: u64) -> f32 {
    f32::from_bits(number.to_bits() | (next >> 63 << 31) as u32)
}

#[inline(always)]
fn read_pairs<const HAS_EXTRA: bool>(
    bits: &mut Bits,
    lookup: &Lookup,
    extra: u32,
    powers: &[f32],
    gain: f32,
    lines: &mut [f32],
) {
    let mut at = bits.at;
    for pair in lines.as_chunks_mut::<2>().0 {
        bits.at = at;
        let mut next = bits.peek();
        let entry = lookup.find(next);
        next <<= entry.length;
        let mut used = u32::from(entry.length);
        let values = [usize::from(entry.value & 15), usize::from(entry.value >> 4)];
        for (line, value) in pair.iter_mut().zip(values) {
            let mut value = value;
            if HAS_EXTRA && value == ESCAPE {
                value += (next >> (64 - extra)) as usize;
                next <<= extra;
                used += extra;
            }
            *line = signed(powers[value], next) * gain;
            let sign = u32::from(value != 0);
            next <<= sign;
            used += sign;
        }
        at += used as usize;
    }
    bits.at = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_whatever_follows_it() {
        for (number, pairs) in &PAIRS {
            let lookup = Lookup::new(pairs);
            for (at, &code) in pairs.codes.iter().enumerate() {
                let length = code.ilog2();
                for rest in [0, u64::MAX >> length] {
                    let entry = lookup.find(u64::from(code) << (63 - length) << 1 | rest);
                    let found = (u32::from(entry.length), usize::from(entry.value));
                    assert_eq!(found, (length, pairs.value(at)), "table {number}");
                }
            }
            // The code is complete: every bit string decodes.
            let shares: f64 = pairs.codes.iter().map(|code| 0.5f64.powi(code.ilog2() as i32)).sum();
            assert!((shares - 1.0).abs() < 1e-12, "table {number}: {shares}");
        }
    }
}
