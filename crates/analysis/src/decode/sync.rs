//! Streams of consecutive frames whose headers contain their length: finds them in a file, regardless of other data
//! before, between and after them.

use std::io::Result;

use super::{tags, window::Window};

/// Consecutive frames required to recognise music at first, or when the kind changes. Pictures and damaged data contain
/// fewer.
pub(super) const FIRST_FRAMES: usize = 4;

/// The same after damage.
const NEXT_FRAMES: usize = 2;

/// Bytes searched at once.
const SEARCH_BYTES: usize = 64 * 1024;

/// Maximum number of consecutive tags before the first frame.
const MAX_TAGS: usize = 1_000;

/// Where to look for frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// At the start of the file, or after the tags and zeros at its start.
    Start,
    Everywhere,
}

/// A frame's header.
pub(super) trait FrameHeader: Sized {
    /// First byte of every frame.
    const MARK: u8;

    /// Length of the longest frame in bytes.
    const MAX_FRAME_BYTES: usize;

    /// Parses the header at the start of `bytes`.
    fn parse(bytes: &[u8]) -> Option<Self>;

    /// Length of the whole frame in bytes.
    fn bytes(&self) -> usize;

    /// Whether `other` can belong to the same stream.
    fn goes_on_as(&self, other: &Self) -> bool;
}

/// Moves to the first frame; none if there are no frames.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn first<H: FrameHeader>(window: &mut Window, search: Search) -> Result<Option<H>> {
    skip_tags_and_zeros(window)?;
    let first = here(window)?;
    if first.is_some() || search == Search::Start {
        return Ok(first);
    }
    if let Some(found) = find(window, None)? {
        return Ok(Some(found));
    }
    // The tag may have declared too large a length.
    window.go(0)?;
    find(window, None)
}

/// The first of [`FIRST_FRAMES`] frames in a row at the current position; tags and zeros may lie between them. Fewer
/// suffice if the file ends with them.
fn here<H: FrameHeader>(window: &mut Window) -> Result<Option<H>> {
    let start = window.at();
    let (mut first, mut frames) = (None, 0);
    let is_chain = loop {
        let bytes = window.ahead(FIRST_FRAMES * H::MAX_FRAME_BYTES)?;
        let next = H::parse(bytes).filter(|next| first.as_ref().is_none_or(|first| next.goes_on_as(first)));
        if let Some(next) = next {
            let (length, is_whole) = (next.bytes(), next.bytes() <= bytes.len());
            first.get_or_insert(next);
            frames += 1;
            if frames == FIRST_FRAMES || !is_whole {
                break frames == FIRST_FRAMES;
            }
            window.skip(length as u64)?;
        } else if bytes.is_empty() || first.is_none() {
            break true;
        } else {
            let before = window.at();
            skip_tags_and_zeros(window)?;
            if window.at() == before {
                break false;
            }
        }
    };
    window.go(start)?;
    Ok(first.filter(|_| is_chain))
}

/// The first of `frames` frames in a row at the start of `bytes`; fewer suffice if the bytes end with them.
pub(super) fn chain<H: FrameHeader>(bytes: &[u8], frames: usize) -> Option<H> {
    let first = H::parse(bytes)?;
    let mut at = first.bytes();
    for _ in 1..frames {
        if at == bytes.len() {
            break;
        }
        let next = H::parse(bytes.get(at..)?).filter(|next| next.goes_on_as(&first))?;
        at += next.bytes();
    }
    Some(first)
}

/// Moves to the next frame, or to the end. Fewer consecutive frames suffice if they match `known`.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn find<H: FrameHeader>(window: &mut Window, known: Option<&H>) -> Result<Option<H>> {
    loop {
        let bytes = window.ahead(SEARCH_BYTES)?;
        let is_all = bytes.len() < SEARCH_BYTES;
        // Leaves room for the frames that must follow.
        let end = if is_all { bytes.len() } else { bytes.len() - FIRST_FRAMES * H::MAX_FRAME_BYTES };
        let found = memchr::memchr_iter(H::MARK, &bytes[..end]).find_map(|at| {
            let first = chain::<H>(&bytes[at..], NEXT_FRAMES)?;
            let is_known = known.is_some_and(|known| first.goes_on_as(known));
            (is_known || chain::<H>(&bytes[at..], FIRST_FRAMES).is_some()).then_some((at, first))
        });
        match found {
            Some((at, header)) => {
                window.skip(at as u64)?;
                return Ok(Some(header));
            }
            None => window.skip(end as u64)?,
        }
        if is_all {
            return Ok(None);
        }
    }
}

fn skip_tags_and_zeros(window: &mut Window) -> Result<()> {
    for _ in 0..MAX_TAGS {
        if let Some(length) = tags::next(window)? {
            window.skip(length)?;
            continue;
        }
        let before = window.at();
        loop {
            let bytes = window.ahead(SEARCH_BYTES)?;
            let (zeros, all) = (bytes.iter().take_while(|&&byte| byte == 0).count(), bytes.len());
            window.skip(zeros as u64)?;
            if zeros < all || all == 0 {
                break;
            }
        }
        if window.at() == before {
            break;
        }
    }
    Ok(())
}
