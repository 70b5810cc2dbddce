//! Files that have the names of audio files and are known to be something else.

/// Bytes of a file's beginning that tell.
pub(super) const HEAD_BYTES: usize = 16;

/// Shorter than the header of an AppleDouble file, and than any audio file.
const MIN_APPLE_DOUBLE_BYTES: u64 = 26;

/// The longest entry of a recycle bin: a header, a size, a moment, and a path.
const MAX_BIN_ENTRY_BYTES: u64 = 8 * 1024;

/// What a file is instead of audio, by its name, its first bytes and its size; none when it may be audio.
pub(super) fn disguise(name: &str, head: &[u8], bytes: u64) -> Option<&'static str> {
    // RFC 1740, appendix A. What macOS keeps beside `x.mp3`, on disks that have no place for it, is `._x.mp3`.
    match head {
        [0x00, 0x05, 0x16, 0x07, ..] => return Some("AppleDouble"),
        [0x00, 0x05, 0x16, 0x00, ..] => return Some("AppleSingle"),
        _ => {}
    }
    if name.starts_with("._") && bytes < MIN_APPLE_DOUBLE_BYTES {
        return Some("AppleDouble");
    }
    // Beside `$Rx.mp3`, which has been deleted, Windows keeps `$Ix.mp3`, which says where that was.
    let is_bin_entry = name.starts_with("$I") && bytes <= MAX_BIN_ENTRY_BYTES;
    match head {
        [1 | 2, 0, 0, 0, 0, 0, 0, 0, ..] if is_bin_entry => Some("Windows recycle bin"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_not_to_be_audio_is_left_out() {
        let double = [0, 5, 22, 7, 0, 2, 0, 0];
        assert_eq!(disguise("._x.mp3", &double, 4096), Some("AppleDouble"));
        assert_eq!(disguise("x.mp3", &double, 4096), Some("AppleDouble"), "in a folder called .AppleDouble");
        assert_eq!(disguise("._x.mp3", &[], 0), Some("AppleDouble"));
        assert_eq!(disguise("._real.mp3", b"ID3\x04", 4096), None);
        assert_eq!(disguise("$IABC12.mp3", &[2, 0, 0, 0, 0, 0, 0, 0, 9], 544), Some("Windows recycle bin"));
        assert_eq!(disguise("$I.mp3", b"ID3\x04", 544), None);
        assert_eq!(disguise("empty.mp3", &[], 0), None, "that is an error of which its owner should know");
    }
}
