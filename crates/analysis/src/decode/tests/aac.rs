//! AAC in more channels than two, as an encoder writes it.

use rusty_aac::{AacEncoder, AacEncoderConfig, AdtsHeader, write_adts_header};

use super::{expected, whole};
use crate::dsp::Speaker::{Centre, Left, LowFrequency, Right, SurroundLeft, SurroundRight};

const RATE: u32 = 48_000;

/// Two seconds with a tone in one of some channels, in ADTS.
fn tone(channels: u16, channel: usize) -> Vec<u8> {
    let samples = (0..2 * RATE).flat_map(|i| {
        // Low enough for the channel of low frequencies.
        let sample = 0.5 * (i as f32 * 60.0 * std::f32::consts::TAU / RATE as f32).sin();
        (0..usize::from(channels)).map(move |other| if other == channel { sample } else { 0.0 })
    });
    let mut encoder = AacEncoder::new(AacEncoderConfig { bitrate_bps: 256_000, ..AacEncoderConfig::default() });
    encoder.push_pcm(&samples.collect::<Vec<_>>(), channels, RATE).unwrap();
    encoder.finish();
    let mut adts = Vec::new();
    while let Ok(packet) = encoder.next_packet() {
        let header = AdtsHeader {
            object_type: 2,
            sample_rate: RATE,
            channels,
            frame_length: 7 + packet.data.len(),
            header_len: 7,
        };
        adts.extend(write_adts_header(&header));
        adts.extend(packet.data);
    }
    adts
}

#[test]
fn every_channel_is_folded_by_where_it_stands() {
    for (channels, speakers) in [
        (3, vec![Left, Right, Centre]),
        (5, vec![Left, Right, Centre, SurroundLeft, SurroundRight]),
        (6, vec![Left, Right, Centre, LowFrequency, SurroundLeft, SurroundRight]),
    ] {
        let mut gains: Vec<f32> = (0..usize::from(channels))
            .map(|channel| {
                let samples = whole(tone(channels, channel), 2.05);
                let middle = &samples[RATE as usize / 2..RATE as usize * 3 / 2];
                (middle.iter().map(|sample| sample * sample).sum::<f32>() / middle.len() as f32 * 2.0).sqrt() / 0.5
            })
            .collect();
        // The encoder's order is its own.
        let mut right: Vec<f32> = expected(&speakers).into_iter().collect();
        gains.sort_by(f32::total_cmp);
        right.sort_by(f32::total_cmp);
        for (gain, right) in gains.iter().zip(&right) {
            // The encoder is not exact; the gains of two places differ by more.
            assert!((gain - right).abs() < 0.04, "{channels} channels: {gains:?} instead of {right}");
        }
    }
}
