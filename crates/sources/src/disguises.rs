//! Files that are named like audio files but are known to be something else.

/// Bytes needed from the start of a file to recognise it.
pub(super) const HEAD_BYTES: usize = 16;

/// Size of the header of an AppleDouble file; any audio file is larger.
const MIN_APPLE_DOUBLE_BYTES: u64 = 26;

/// Largest recycle bin entry: a header, a size, a time, and a path.
const MAX_BIN_ENTRY_BYTES: u64 = 8 * 1024;

/// What a file really is, by its name, first bytes and size; none when it may be audio.
pub(super) fn disguise(name: &str, head: &[u8], bytes: u64) -> Option<&'static str> {
    // RFC 1740, appendix A. On disks that cannot store it otherwise, macOS keeps metadata of `x.mp3` in `._x.mp3`.
    match head {
        [0x00, 0x05, 0x16, 0x07, ..] => return Some("AppleDouble"),
        [0x00, 0x05, 0x16, 0x00, ..] => return Some("AppleSingle"),
        _ => {}
    }
    if name.starts_with("._") && bytes < MIN_APPLE_DOUBLE_BYTES {
        return Some("AppleDouble");
    }
    // For a deleted file `$Rx.mp3`, Windows keeps its original path in `$Ix.mp3`.
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
