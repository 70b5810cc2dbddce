//! Streams that are frames one after the other, each with a header that tells its length: where they are in a file, whatever
//! lies before, between and behind them.

use std::io::Result;

use super::{tags, window::Window};

/// Frames in a row that are taken for music where nothing is known yet, or where the kind changes. Fewer are found in
/// pictures, and in damage.
pub(super) const FIRST_FRAMES: usize = 4;

/// The same behind damage.
const NEXT_FRAMES: usize = 2;

/// Bytes searched at once.
const SEARCH_BYTES: usize = 64 * 1024;

/// Tags in a row before the first frame.
const MAX_TAGS: usize = 1_000;

/// Where frames are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// Where the file starts, or the tags and zeros end that it starts with.
    Start,
    Everywhere,
}

/// A frame's header.
pub(super) trait FrameHeader: Sized {
    /// The byte that each begins with.
    const MARK: u8;

    /// Bytes of the longest frame.
    const MAX_FRAME_BYTES: usize;

    /// The header that the bytes begin with.
    fn parse(bytes: &[u8]) -> Option<Self>;

    /// Bytes of the whole frame.
    fn bytes(&self) -> usize;

    /// Whether a frame may follow this one without being another stream's.
    fn goes_on_as(&self, other: &Self) -> bool;
}

/// Goes to the first frame; none where there is none.
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
    // A tag that says that it is longer than it is.
    window.go(0)?;
    find(window, None)
}

/// The first of the frames that follow each other from here on, but for tags and zeros between them; fewer than
/// [`FIRST_FRAMES`] are enough where the file ends with them.
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

/// The first of so many frames that follow each other from the first byte on; fewer are enough where the bytes end with
/// them.
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

/// Goes to the next frame, or to the end. Behind a frame like `known` fewer have to follow each other.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn find<H: FrameHeader>(window: &mut Window, known: Option<&H>) -> Result<Option<H>> {
    loop {
        let bytes = window.ahead(SEARCH_BYTES)?;
        let is_all = bytes.len() < SEARCH_BYTES;
        // What is left has room for the frames that have to follow.
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
