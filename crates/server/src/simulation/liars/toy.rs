//! A toy analysis: the patches of a track follow from its number alone, and its vector is their mean. It is all that the
//! rules need, and takes no time.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chaarfm_analysis::Recheck;
use chaarfm_domain::Found;
use chaarfm_protocol::{Halves, Track, Vector};
use chaarfm_sources::Libraries;
use chaarfm_store::{JobRow, model_spec};
use fastrand::Rng;
use futures_util::future::BoxFuture;
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::{
    models,
    verification::{LIMIT_SECONDS, MAX_WAITING, Recompute},
};

/// Different passages of music. Each patch of a track is one of them.
const PASSAGES: usize = 128;

/// Seconds of music from one patch to the next.
const SECONDS_PER_PATCH: f64 = 3.0;

/// Largest relative distance of a vector that counts as right: it is computed from numbers of single precision.
const TOLERANCE: f64 = 1e-4;

/// A false patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// It is from another track; which one follows from this number and its place.
    Another(u64),
    /// It is right, but this many times as loud, so that the vector is almost only this patch.
    Louder(u8),
}

/// All tracks, with their patches and vectors.
#[derive(Debug)]
pub(super) struct Tracks {
    passages: Vec<(Vec<f32>, Halves)>,
    tracks: Vec<Toy>,
}

#[derive(Debug)]
struct Toy {
    /// Its patches, as passages.
    patches: Vec<usize>,
    vector: Vector,
    is_broken: bool,
}

/// What a worker sends for a track.
pub(super) struct Analysis {
    pub(super) patches: Halves,
    pub(super) vector: Vector,
}

impl Tracks {
    /// Invents tracks, of which some percent are broken.
    pub(super) fn invent(rng: &mut Rng, count: usize, patches: RangeInclusive<usize>, broken_percent: u32) -> Self {
        let spec = model_spec(models::default_name()).expect("the default model exists");
        let passages: Vec<_> = (0..PASSAGES)
            .map(|_| {
                let numbers: Vec<f32> = (0..spec.embedding_length).map(|_| rng.f32() * 4.0 - 1.0).collect();
                let halves = numbers.iter().copied().collect();
                (numbers, halves)
            })
            .collect();
        let track = |_| {
            let patches: Vec<usize> = (0..rng.usize(patches.clone())).map(|_| rng.usize(..PASSAGES)).collect();
            let mut mean = vec![0.0_f32; spec.embedding_length];
            for &patch in &patches {
                add(&mut mean, &passages[patch].0, 1.0 / patches.len() as f32);
            }
            let vector = Vector {
                model: spec.name.clone(),
                embedding: mean,
                tags: vec![0.5; spec.tag_count],
                seconds: patches.len() as f64 * SECONDS_PER_PATCH,
                patches: patches.len() as u32,
                flags: Vec::new(),
            };
            Toy { patches, vector, is_broken: rng.u32(..100) < broken_percent }
        };
        let tracks = (0..count).map(track).collect();
        Self { passages, tracks }
    }

    /// The files as a scan finds them, named by their numbers.
    pub(super) fn files(&self) -> Vec<Found> {
        let found = |file: usize| {
            let track = Track { file: file.to_string(), ..Track::default() };
            Found { track, bytes: 1, version: None, seconds: None, content: Ok(content_hash(file)) }
        };
        (0..self.tracks.len()).map(found).collect()
    }

    pub(super) fn is_broken(&self, file: usize) -> bool {
        self.tracks[file].is_broken
    }

    /// The patches of a track.
    pub(super) fn patches(&self, file: usize) -> usize {
        self.tracks[file].patches.len()
    }

    /// Analyses a track, with lies in some places.
    pub(super) fn analyse(&self, file: usize, lies: &[(usize, Lie)]) -> Analysis {
        let track = &self.tracks[file];
        let mut vector = track.vector.clone();
        let mut halves = Vec::with_capacity(track.patches.len() * vector.embedding.len());
        track.patches.iter().for_each(|patch| halves.extend_from_slice(&self.passages[*patch].1.0));
        let (length, share) = (vector.embedding.len(), 1.0 / track.patches.len() as f32);
        for &(place, lie) in lies {
            let right = track.patches[place];
            let numbers: Vec<f32> = match lie {
                Lie::Another(number) => self.passages[other_than(right, number, place)].0.clone(),
                Lie::Louder(times) => self.passages[right].0.iter().map(|number| number * f32::from(times)).collect(),
            };
            add(&mut vector.embedding, &self.passages[right].0, -share);
            add(&mut vector.embedding, &numbers, share);
            let sent: Halves = numbers.into_iter().collect();
            halves[place * length..][..length].copy_from_slice(&sent.0);
        }
        Analysis { patches: Halves(halves), vector }
    }

    /// Whether this is the vector of the track.
    pub(super) fn is_right(&self, file: usize, embedding: &[f32]) -> bool {
        !self.is_broken(file) && self.distance(file, embedding) <= TOLERANCE
    }

    /// Distance of a vector from that of the track, relative to its length.
    pub(super) fn distance(&self, file: usize, embedding: &[f32]) -> f64 {
        let right = &self.tracks[file].vector.embedding;
        let length = |numbers: &[f64]| numbers.iter().map(|number| number * number).sum::<f64>().sqrt();
        let size: Vec<f64> = right.iter().copied().map(f64::from).collect();
        let apart: Vec<f64> = size.iter().zip(embedding).map(|(right, &number)| right - f64::from(number)).collect();
        length(&apart) / length(&size)
    }
}

fn add(sum: &mut [f32], numbers: &[f32], weight: f32) {
    for (sum, number) in sum.iter_mut().zip(numbers) {
        *sum += number * weight;
    }
}

/// A passage other than this one, the same whenever the number and the place are.
fn other_than(passage: usize, number: u64, place: usize) -> usize {
    let mut rng = Rng::with_seed(number ^ ((place as u64) << 32));
    (passage + rng.usize(1..PASSAGES)) % PASSAGES
}

pub(super) fn content_hash(file: usize) -> String {
    format!("content {file}")
}

/// Recomputes patches like the real verifier: one track at a time, after a while.
pub(super) struct Toys {
    tracks: Arc<Tracks>,
    /// Time for each track.
    takes: Duration,
    turn: Mutex<()>,
    waiting: AtomicUsize,
}

impl Toys {
    pub(super) fn new(tracks: &Arc<Tracks>, takes: Duration) -> Self {
        Self { tracks: Arc::clone(tracks), takes, turn: Mutex::default(), waiting: AtomicUsize::new(0) }
    }

    async fn after_a_while(&self, file: usize, indices: &[u32]) -> Result<Recheck, String> {
        let turn = self.turn.lock().await;
        sleep(self.takes).await;
        drop(turn);
        let track = &self.tracks.tracks[file];
        if track.is_broken {
            return Err("it is no audio".to_owned());
        }
        let patches = indices.iter().filter_map(|index| track.patches.get(*index as usize));
        let embeddings = patches.map(|patch| self.tracks.passages[*patch].0.clone()).collect();
        Ok(Recheck { embeddings, patches: track.vector.patches, seconds: track.vector.seconds })
    }
}

impl Recompute for Toys {
    fn recompute<'a>(
        &'a self,
        _libraries: &'a Libraries,
        row: &'a JobRow,
        indices: Vec<u32>,
    ) -> BoxFuture<'a, Result<Recheck, String>> {
        Box::pin(async move {
            if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                return Err("too many wait".to_owned());
            }
            let file = row.track.file.parse().expect("files are called by numbers");
            let limit = Duration::from_secs(LIMIT_SECONDS);
            let recomputed = timeout(limit, self.after_a_while(file, &indices)).await;
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            recomputed.unwrap_or_else(|_| Err("it takes too long".to_owned()))
        })
    }
}
