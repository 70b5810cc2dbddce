//! Numbers of any length in bits, highest bit first. Bits beyond the end read as zero.

/// Bytes, and the position of the next bit.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// At least the next 57 bits, left-aligned.
    #[inline(always)]
    pub(super) fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let bytes = rest.first_chunk().copied().unwrap_or_else(|| padded(rest));
        u64::from_be_bytes(bytes) << (self.at % 8)
    }

    /// The next `count` bits, 1 to 32.
    #[inline(always)]
    pub(super) fn take(&mut self, count: usize) -> u32 {
        let bits = self.peek() >> (64 - count);
        self.at += count;
        bits as u32
    }

    #[inline(always)]
    pub(super) fn flag(&mut self) -> bool {
        self.take(1) == 1
    }
}

#[cold]
fn padded(rest: &[u8]) -> [u8; 8] {
    std::array::from_fn(|at| rest.get(at).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_up_to_the_end_and_zeros_behind_it() {
        let mut bits = Bits::new(&[0b1010_0000, 0xFF, 0x81]);
        assert_eq!((bits.take(3), bits.take(5), bits.take(12)), (5, 0, 0xFF8));
        assert_eq!((bits.take(4), bits.take(32), bits.at), (1, 0, 56));
        bits.at = usize::MAX - 64;
        assert_eq!(bits.take(9), 0);
    }
}
