//! Coded sound that pretends to be PCM of 16 bits, so that it can be burnt on a CD or sent over S/PDIF. As samples it is noise.

/// Bytes of a file that are looked at.
pub(super) const LOOK_BYTES: usize = 64 << 10;

/// Least frames that are found.
const FRAMES: usize = 3;

/// How a frame begins: four bytes, and what of a byte behind them is always the same.
struct Beginning {
    word: [u8; 4],
    at: usize,
    mask: u8,
    value: u8,
    name: &'static str,
}

/// Sync words of DTS in samples of 16 and of 14 bits, either way round, with what follows in ordinary frames (ETSI TS
/// 102 114, 5.3 and 5.4.1); and the preamble of a burst on S/PDIF, with a byte of its kind that is 0 (IEC 61937-1, 6.1).
const BEGINNINGS: &[Beginning] = &[
    Beginning { word: [0x7F, 0xFE, 0x80, 0x01], at: 4, mask: 0xFC, value: 0xFC, name: "DTS" },
    Beginning { word: [0xFE, 0x7F, 0x01, 0x80], at: 5, mask: 0xFC, value: 0xFC, name: "DTS" },
    Beginning { word: [0x1F, 0xFF, 0xE8, 0x00], at: 4, mask: 0xFF, value: 0x07, name: "DTS" },
    Beginning { word: [0xFF, 0x1F, 0x00, 0xE8], at: 5, mask: 0xFF, value: 0x07, name: "DTS" },
    Beginning { word: [0x72, 0xF8, 0x1F, 0x4E], at: 5, mask: 0xE0, value: 0, name: "AC-3 or DTS for S/PDIF" },
    Beginning { word: [0xF8, 0x72, 0x4E, 0x1F], at: 4, mask: 0xE0, value: 0, name: "AC-3 or DTS for S/PDIF" },
];

/// What coded sound the bytes at the start of PCM are, if they are: frames come at an equal distance.
pub(super) fn name(bytes: &[u8]) -> Option<&'static str> {
    let found = |beginning: &&Beginning| {
        let is_one = |window: &[u8]| {
            window.starts_with(&beginning.word) && window[beginning.at] & beginning.mask == beginning.value
        };
        let places: Vec<usize> =
            bytes.windows(6).enumerate().filter(|(_, window)| is_one(window)).map(|(at, _)| at).take(FRAMES).collect();
        matches!(places[..], [first, second, third] if third - second == second - first)
    };
    BEGINNINGS.iter().find(found).map(|beginning| beginning.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_at_an_equal_distance_are_coded_sound_and_chance_is_not() {
        let mut bytes = vec![0u8; 20_000];
        for at in [4_000, 6_048, 8_096] {
            bytes[at..at + 6].copy_from_slice(&[0xFE, 0x7F, 0x01, 0x80, 0x13, 0xFD]);
        }
        assert_eq!(name(&bytes), Some("DTS"));
        bytes[8_101] = 0;
        assert_eq!(name(&bytes), None, "the third has something else behind it");
        // A square wave at full scale.
        let square: Vec<u8> = [[0xFE, 0x7F].repeat(50), [0x01, 0x80].repeat(50)].concat().repeat(100);
        assert_eq!(name(&square), None);
    }
}
