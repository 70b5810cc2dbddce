//! Recognises coded sound disguised as 16-bit PCM for burning on a CD or sending over S/PDIF. Played as samples it is
//! noise.

/// Number of bytes of a file to examine.
pub(super) const LOOK_BYTES: usize = 64 << 10;

/// Minimum number of frames.
const FRAMES: usize = 3;

/// The start of a frame: four bytes, and the constant bits of a byte after them.
struct Beginning {
    word: [u8; 4],
    at: usize,
    mask: u8,
    value: u8,
    name: &'static str,
}

/// Sync words of DTS in 16-bit and 14-bit samples and both byte orders, with the bits that follow in ordinary frames
/// (ETSI TS 102 114, 5.3 and 5.4.1); and the preamble of a burst on S/PDIF, with the reserved zero bits (IEC 61937-1,
/// 6.1).
const BEGINNINGS: &[Beginning] = &[
    Beginning { word: [0x7F, 0xFE, 0x80, 0x01], at: 4, mask: 0xFC, value: 0xFC, name: "DTS" },
    Beginning { word: [0xFE, 0x7F, 0x01, 0x80], at: 5, mask: 0xFC, value: 0xFC, name: "DTS" },
    Beginning { word: [0x1F, 0xFF, 0xE8, 0x00], at: 4, mask: 0xFF, value: 0x07, name: "DTS" },
    Beginning { word: [0xFF, 0x1F, 0x00, 0xE8], at: 5, mask: 0xFF, value: 0x07, name: "DTS" },
    Beginning { word: [0x72, 0xF8, 0x1F, 0x4E], at: 5, mask: 0xE0, value: 0, name: "AC-3 or DTS for S/PDIF" },
    Beginning { word: [0xF8, 0x72, 0x4E, 0x1F], at: 4, mask: 0xE0, value: 0, name: "AC-3 or DTS for S/PDIF" },
];

/// Name of the coded sound at the start of PCM data, if frames recur at an equal distance.
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
