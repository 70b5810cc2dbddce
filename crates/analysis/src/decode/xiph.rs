//! Parameters of Xiph's codecs in containers other than Ogg.

use super::stream::Fields;

/// Size of FLAC's header block STREAMINFO (RFC 9639, section 8.2).
const STREAMINFO_BYTES: usize = 34;

/// A length in Xiph's lacing: a byte of 255 means that another byte follows.
pub(super) fn laced_length(fields: &mut Fields<'_>) -> Option<usize> {
    let mut length = 0;
    loop {
        let byte = fields.u8()?;
        length += usize::from(byte);
        if byte < 255 {
            return Some(length);
        }
    }
}

/// Vorbis's first and third header, concatenated, from three headers in Xiph's lacing.
pub(super) fn vorbis_headers(laced: &[u8]) -> Option<Vec<u8>> {
    let mut fields = Fields(laced);
    let others = fields.u8()?;
    let lengths = (0..others).map(|_| laced_length(&mut fields)).collect::<Option<Vec<_>>>()?;
    let mut headers = Vec::new();
    for length in lengths {
        headers.push(fields.take(length)?);
    }
    headers.push(fields.0);
    let header = |kind: u8| headers.iter().find(|header| header.first() == Some(&kind)).copied();
    Some([header(1)?, header(5)?].concat())
}

/// STREAMINFO and its sample rate in Hz, from FLAC's header blocks.
pub(super) fn flac_stream_info(blocks: &[u8]) -> Option<(&[u8], u32)> {
    let mut fields = Fields(blocks);
    loop {
        let kind = fields.u8()? & 0x7F;
        let length = fields.u24()? as usize;
        let block = fields.take(length)?;
        if kind == 0 {
            let info = block.get(..STREAMINFO_BYTES)?;
            // 20 bits after the sizes of blocks and frames.
            return Some((info, Fields(&info[10..]).u24()? >> 4));
        }
    }
}
