//! Sample entries (ISO/IEC 14496-12, section 12.2.3): the codec and parameters of a track. QuickTime's entries have extra
//! fields after the common ones (QuickTime File Format, "Sound Sample Descriptions").

use symphonia::core::{
    audio::{Channels, Position},
    codecs::audio::{AudioCodecId, AudioCodecParameters, well_known::*},
};

use super::{
    super::{aac, codec::unsupported, core_audio, stream::Fields, xiph},
    boxes::{self, Name},
    table::PIECE_FRAMES,
};
use crate::AudioError;

/// QuickTime may nest an entry's parameter boxes in a box `wave`, one level deep.
const QUICKTIME_PARAMETERS: Name = *b"wave";

/// Samples per channel in a packet of Apple's IMA ADPCM, and its bytes.
const IMA4: (u32, u64) = (64, 34);

/// Maximum number of frames in a packet of PCM that is not stored frame by frame.
const MAX_PCM_FRAMES: u64 = 1 << 16;

/// How a track's packets are stored in its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// Each sample is a packet.
    Samples,
    /// Each sample is a frame, and `frames` of them make a packet of `bytes`, regardless of the table of sizes.
    Frames { frames: u32, bytes: u64 },
    /// The same for MPEG audio, whose frames contain their own lengths.
    MpegFrames,
}

/// Codec parameters of a track's samples.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The sample rate is 0 if the entry has none.
    pub(super) parameters: AudioCodecParameters,
    pub(super) packing: Packing,
}

/// The fields that all entries share, and the boxes after them.
struct Sound<'a> {
    rate: u32,
    channels: u16,
    bits: u32,
    /// Only in version 2: the PCM format, and the bytes per packet.
    flags: Option<u32>,
    packet_bytes: u32,
    boxes: &'a [u8],
}

impl<'a> Sound<'a> {
    fn read(entry: &'a [u8], is_quicktime: bool) -> Option<Self> {
        let mut fields = Fields(entry);
        fields.take(8)?;
        let version = fields.u16()?;
        fields.take(6)?;
        let (channels, bits) = (fields.u16()?, fields.u16()?);
        fields.take(4)?;
        // A fixed-point number with 16 bits of fraction.
        let rate = fields.u32()? >> 16;
        let mut sound = Sound { rate, channels, bits: u32::from(bits), flags: None, packet_bytes: 0, boxes: fields.0 };
        match version {
            1 if is_quicktime => {
                fields.take(16)?;
            }
            2 if is_quicktime => {
                fields.take(4)?;
                let rate = f64::from_bits(fields.u64()?);
                sound.rate = rate.round() as u32;
                sound.channels = u16::try_from(fields.u32()?).unwrap_or(u16::MAX);
                fields.take(4)?;
                sound.bits = fields.u32()?;
                sound.flags = Some(fields.u32()?);
                sound.packet_bytes = fields.u32()?;
                fields.take(4)?;
            }
            _ => return Some(sound),
        }
        sound.boxes = fields.0;
        Some(sound)
    }

    /// Content of a box in the entry or in QuickTime's wrapper `wave`.
    fn find(&self, name: Name) -> Option<&'a [u8]> {
        let nested = || boxes::find(self.boxes, QUICKTIME_PARAMETERS).and_then(|wave| boxes::find(wave, name));
        boxes::find(self.boxes, name).or_else(nested)
    }

    fn parameters(&self, codec: AudioCodecId) -> AudioCodecParameters {
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(codec).with_sample_rate(self.rate);
        if self.channels > 0 {
            parameters.with_channels(Channels::Discrete(self.channels));
        }
        parameters
    }
}

/// Parses an entry by its name. `is_quicktime` says whether the version field is QuickTime's.
///
/// # Errors
/// Names a codec without a decoder, or a copy protection.
pub(super) fn read(name: Name, entry: &[u8], is_quicktime: bool) -> Result<Entry, AudioError> {
    let damaged = || AudioError::Damaged(format!("the entry of {} ends too early", name.escape_ascii()));
    let sound = Sound::read(entry, is_quicktime).ok_or_else(damaged)?;
    let by_samples = |parameters| Entry { parameters, packing: Packing::Samples };
    match &name {
        b"drms" | b"drmi" => return Err(AudioError::Protected("FairPlay, by the iTunes Store")),
        b"enca" => return Err(AudioError::Protected("Common Encryption")),
        b"aavd" => return Err(AudioError::Protected("Audible")),
        _ => {}
    }
    if let Some(pcm) = pcm(name, &sound) {
        return pcm;
    }
    Ok(match &name {
        b"mp4a" => by_samples(elementary(&sound)?),
        b"alac" => by_samples(alac(&sound).ok_or_else(damaged)?),
        b"fLaC" => by_samples(flac(&sound).ok_or_else(damaged)?),
        b"Opus" => {
            let header = sound.find(*b"dOps").ok_or_else(damaged)?;
            let mut parameters = sound.parameters(CODEC_ID_OPUS);
            // The header's first eight bytes are those of Ogg's header.
            parameters.with_sample_rate(48_000).with_extra_data([b"OpusHead", header].concat().into());
            parameters.channels = None;
            by_samples(parameters)
        }
        b".mp3" | b"mp3 " | b"MP3 " | b"ms\0\x55" | b".mp1" | b".mp2" | b"ms\0\x50" => {
            Entry { parameters: mpeg(&sound), packing: Packing::MpegFrames }
        }
        b"ima4" => {
            let mut parameters = sound.parameters(CODEC_ID_ADPCM_IMA_QT);
            let (frames, bytes) = IMA4;
            parameters.with_frames_per_block(u64::from(frames)).with_max_frames_per_packet(u64::from(PIECE_FRAMES));
            Entry { parameters, packing: Packing::Frames { frames, bytes: bytes * u64::from(sound.channels) } }
        }
        _ => return Err(unsupported(&codec_name(name))),
    })
}

/// A codec's common name.
fn codec_name(name: Name) -> String {
    let known = match &name {
        b"ac-3" | b"sac3" => "AC-3 (Dolby Digital)",
        b"ec-3" => "E-AC-3 (Dolby Digital Plus)",
        b"ac-4" => "AC-4 (Dolby)",
        b"mlpa" => "TrueHD (Dolby)",
        b"dtsc" | b"dtsh" | b"dtsl" | b"dtse" | b"dtsx" | b"DTS " => "DTS",
        b"samr" => "AMR (narrow-band speech)",
        b"sawb" | b"sawp" => "AMR (wide-band speech)",
        b"sevc" | b"sevs" => "EVRC (speech)",
        b"sqcp" | b"Qclp" => "QCELP (speech)",
        b"mha1" | b"mha2" | b"mhm1" | b"mhm2" => "MPEG-H 3D Audio",
        b"iamf" => "Immersive Audio (IAMF)",
        b"QDM2" | b"QDMC" | b"QDCL" => "QDesign Music",
        b"MAC3" | b"MAC6" => "MACE",
        b"agsm" | b"ms\0\x31" => "GSM (speech)",
        b"spex" => "Speex",
        b"owma" | b"wma " => "Windows Media Audio",
        b"ms\0\x02" => "Microsoft ADPCM",
        b"ms\0\x11" => "IMA ADPCM",
        _ => return format!("{} in MP4", name.escape_ascii()),
    };
    known.to_owned()
}

/// PCM under any of its names; none for other codecs.
fn pcm(name: Name, sound: &Sound<'_>) -> Option<Result<Entry, AudioError>> {
    let is_little = sound.find(*b"enda").is_some_and(|flag| flag.ends_with(&[1]));
    // ISO/IEC 23003-5: flags and bits in a box `pcmC`, after its version.
    let iso = sound.find(*b"pcmC").and_then(|pcm| Some((pcm.get(4)? & 1 == 1, u32::from(*pcm.get(5)?))));
    let kind = match (&name, sound.flags) {
        (b"lpcm", Some(flags)) => Pcm {
            is_float: flags & 1 != 0,
            is_big: flags & 2 != 0,
            is_signed: flags & 4 != 0,
            is_planar: flags & 32 != 0,
            bits: stored_bits(sound, flags),
        },
        (b"lpcm", None) => Pcm::signed(sound.bits, true),
        (b"twos", _) => Pcm::signed(sound.bits.max(8), true),
        (b"sowt", _) => Pcm::signed(sound.bits.max(8), false),
        // With 16 bits the samples count as signed, as in FFmpeg.
        (b"raw " | b"NONE", _) => Pcm { is_signed: sound.bits > 8, ..Pcm::signed(sound.bits.max(8), true) },
        (b"in24", _) => Pcm::signed(24, !is_little),
        (b"in32", _) => Pcm::signed(32, !is_little),
        (b"fl32", _) => Pcm { is_float: true, ..Pcm::signed(32, !is_little) },
        (b"fl64", _) => Pcm { is_float: true, ..Pcm::signed(64, !is_little) },
        (b"ipcm" | b"fpcm", _) => {
            let (is_little, bits) = iso.unwrap_or((false, sound.bits));
            Pcm { is_float: name[0] == b'f', ..Pcm::signed(bits, !is_little) }
        }
        (b"alaw" | b"ulaw", _) => {
            let codec = if name[0] == b'a' { CODEC_ID_PCM_ALAW } else { CODEC_ID_PCM_MULAW };
            return Some(Ok(frame_by_frame(sound, codec, 1)));
        }
        _ => return None,
    };
    Some(match kind.codec() {
        Some(codec) if !kind.is_planar => Ok(frame_by_frame(sound, codec, kind.bits / 8)),
        _ => Err(unsupported(&format!("PCM of {} bits{}", kind.bits, if kind.is_planar { ", planar" } else { "" }))),
    })
}

/// Bits that a sample occupies. Samples may lie in the upper bits of a wider word whose lower bits are zero.
fn stored_bits(sound: &Sound<'_>, flags: u32) -> u32 {
    let bits = sound.packet_bytes * 8 / u32::from(sound.channels.max(1));
    let is_high = flags & 16 != 0;
    if is_high && bits > sound.bits && sound.flags.is_some() { bits } else { sound.bits.next_multiple_of(8) }
}

fn frame_by_frame(sound: &Sound<'_>, codec: AudioCodecId, bytes: u32) -> Entry {
    let mut parameters = sound.parameters(codec);
    let layout = sound.find(*b"chan").and_then(|chan| core_audio::channels(chan.get(4..)?, sound.channels));
    if let Some(channels) = layout.filter(|_| sound.channels > 2) {
        parameters.with_channels(channels);
    }
    parameters.with_max_frames_per_packet(MAX_PCM_FRAMES);
    // G.711 always decodes to 16 bits; the decoder does not want them declared.
    if !matches!(codec, CODEC_ID_PCM_ALAW | CODEC_ID_PCM_MULAW) {
        parameters.with_bits_per_sample(8 * bytes).with_bits_per_coded_sample(8 * bytes);
    }
    Entry { parameters, packing: Packing::Frames { frames: 1, bytes: u64::from(bytes) * u64::from(sound.channels) } }
}

/// Format of PCM samples.
struct Pcm {
    is_float: bool,
    is_big: bool,
    is_signed: bool,
    is_planar: bool,
    bits: u32,
}

impl Pcm {
    fn signed(bits: u32, is_big: bool) -> Self {
        Self { is_float: false, is_big, is_signed: true, is_planar: false, bits: bits.next_multiple_of(8) }
    }

    fn codec(&self) -> Option<AudioCodecId> {
        Some(match (self.bits, self.is_float, self.is_signed, self.is_big) {
            (8, false, true, _) => CODEC_ID_PCM_S8,
            (8, false, false, _) => CODEC_ID_PCM_U8,
            (16, false, true, true) => CODEC_ID_PCM_S16BE,
            (16, false, true, false) => CODEC_ID_PCM_S16LE,
            (16, false, false, true) => CODEC_ID_PCM_U16BE,
            (16, false, false, false) => CODEC_ID_PCM_U16LE,
            (24, false, true, true) => CODEC_ID_PCM_S24BE,
            (24, false, true, false) => CODEC_ID_PCM_S24LE,
            (24, false, false, true) => CODEC_ID_PCM_U24BE,
            (24, false, false, false) => CODEC_ID_PCM_U24LE,
            (32, false, true, true) => CODEC_ID_PCM_S32BE,
            (32, false, true, false) => CODEC_ID_PCM_S32LE,
            (32, false, false, true) => CODEC_ID_PCM_U32BE,
            (32, false, false, false) => CODEC_ID_PCM_U32LE,
            (32, true, _, true) => CODEC_ID_PCM_F32BE,
            (32, true, _, false) => CODEC_ID_PCM_F32LE,
            (64, true, _, true) => CODEC_ID_PCM_F64BE,
            (64, true, _, false) => CODEC_ID_PCM_F64LE,
            _ => return None,
        })
    }
}

/// The cookie consists of one or of two parts (Apple Lossless, "Magic Cookie").
fn alac(sound: &Sound<'_>) -> Option<AudioCodecParameters> {
    let mut cookie = Fields(sound.find(*b"alac")?);
    cookie.take(4)?;
    let length = if cookie.0.len() >= 48 { 48 } else { 24 };
    let mut cookie = Fields(cookie.take(length)?);
    let mut parameters = sound.parameters(CODEC_ID_ALAC);
    parameters.with_extra_data(cookie.0.into());
    cookie.take(20)?;
    parameters.with_sample_rate(cookie.u32()?);
    parameters.channels = None;
    Some(parameters)
}

/// FLAC's own header blocks follow the version field (Encapsulation of FLAC in ISO Base Media File Format, section
/// 3.3.2).
fn flac(sound: &Sound<'_>) -> Option<AudioCodecParameters> {
    let (info, rate) = xiph::flac_stream_info(sound.find(*b"dfLa")?.get(4..)?)?;
    let mut parameters = sound.parameters(CODEC_ID_FLAC);
    parameters.with_sample_rate(rate).with_extra_data(info.into());
    parameters.channels = None;
    Some(parameters)
}

/// MPEG audio; only its frames reveal the layer.
fn mpeg(sound: &Sound<'_>) -> AudioCodecParameters {
    let mut parameters = sound.parameters(CODEC_ID_MP3);
    parameters.channels = None;
    parameters
}

/// Parameters from a box `esds` (ISO/IEC 14496-1, section 7.2.6).
fn elementary(sound: &Sound<'_>) -> Result<AudioCodecParameters, AudioError> {
    let descriptor = sound.find(*b"esds").and_then(|esds| decoder(Fields(esds.get(4..)?)));
    let (kind, config) = match descriptor {
        Some(found) => found,
        // Old QuickTime files with AAC have no descriptor.
        None => (0x40, None),
    };
    Ok(match kind {
        // MPEG audio layers 1 to 3 under AAC's object type.
        0x40 if config.and_then(aac::object_type).is_some_and(|kind| (32..=34).contains(&kind)) => mpeg(sound),
        0x40 | 0x66..=0x68 => {
            let mut parameters = sound.parameters(CODEC_ID_AAC);
            match config.filter(|config| config.len() >= 2) {
                Some(config) => {
                    parameters.with_extra_data(config.into());
                    parameters.channels = None;
                    parameters.with_sample_rate(aac::rate(&parameters));
                }
                None if sound.channels <= 2 => {
                    let side = if sound.channels == 1 {
                        Position::FRONT_CENTER
                    } else {
                        Position::FRONT_LEFT | Position::FRONT_RIGHT
                    };
                    parameters.with_channels(Channels::Positioned(side));
                }
                None => return Err(AudioError::Damaged("AAC without its parameters".to_owned())),
            }
            parameters
        }
        0x69 | 0x6B => mpeg(sound),
        0xA5 => return Err(unsupported("AC-3 (Dolby Digital)")),
        0xA6 => return Err(unsupported("E-AC-3 (Dolby Digital Plus)")),
        0xA9..=0xAC => return Err(unsupported("DTS")),
        0xA3 | 0xE1 => return Err(unsupported("QCELP (speech)")),
        0xDD => {
            let headers = config.and_then(xiph::vorbis_headers);
            let damaged = || AudioError::Damaged("Vorbis without its headers".to_owned());
            let mut parameters = sound.parameters(CODEC_ID_VORBIS);
            parameters.with_extra_data(headers.ok_or_else(damaged)?.into());
            parameters.channels = None;
            parameters
        }
        kind => return Err(unsupported(&format!("object type {kind:#04x} in MP4"))),
    })
}

/// The object type and the decoder configuration from an elementary stream's descriptor.
fn decoder(mut fields: Fields<'_>) -> Option<(u8, Option<&[u8]>)> {
    let mut stream = Fields(descriptor(&mut fields, 3)?);
    stream.take(2)?;
    let flags = stream.u8()?;
    if flags & 0x80 != 0 {
        stream.take(2)?;
    }
    if flags & 0x40 != 0 {
        let length = stream.u8()?;
        stream.take(usize::from(length))?;
    }
    if flags & 0x20 != 0 {
        stream.take(2)?;
    }
    let mut config = Fields(descriptor(&mut stream, 4)?);
    let kind = config.u8()?;
    config.take(12)?;
    Some((kind, descriptor(&mut config, 5)))
}

/// Content of the first descriptor with a tag. Lengths have up to four bytes of seven bits each.
fn descriptor<'a>(fields: &mut Fields<'a>, tag: u8) -> Option<&'a [u8]> {
    loop {
        let other = fields.u8()?;
        let mut length = 0;
        for _ in 0..4 {
            let byte = fields.u8()?;
            length = length << 7 | usize::from(byte & 0x7F);
            if byte & 0x80 == 0 {
                break;
            }
        }
        // Some writers declare too large a length.
        let body = fields.take(length.min(fields.0.len()))?;
        if other == tag {
            return Some(body);
        }
    }
}
