//! Results are checked against their patches and recomputed: with real audio, and the analysis that workers use.

use std::{collections::BTreeMap, io::Cursor, path::PathBuf};

use chaarfm_analysis::{Backend, Engine, Limits, Step};
use chaarfm_domain::{JobState, Standing};
use chaarfm_protocol::{
    AcceptedAs, Halves, Job, JobRef, Outcome, RefusalReason, RejectionReason, ToServer, ToWorker, Vector,
    limits::MAX_NUMBERS_PER_MESSAGE,
};
use chaarfm_server::VerifyShare;
use serde_json::json;
use tokio::sync::OnceCell;

use super::{
    harness::{Coordinator, Folders, Worker, vector_for},
    invitations::{invite, refusal as refusal_of},
};

/// The two songs of a library, in the order they are handed out.
const SONGS: [&str; 2] = ["band.mp3", "band.ogg"];

/// The result of an honest worker.
#[derive(Clone)]
struct Truth {
    vector: Vector,
    patches: Halves,
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/music");
    std::fs::read(folder.join(name)).unwrap()
}

/// Computed before any worker joins, because a worker would be silent for too long meanwhile.
async fn truths() -> &'static BTreeMap<&'static str, Truth> {
    static TRUTHS: OnceCell<BTreeMap<&str, Truth>> = OnceCell::const_new();
    let compute = || async {
        let model = chaarfm_models::default();
        let engine = Engine::open(Backend::Flex, model, chaarfm_models::weights(model)).await.unwrap();
        let mut truths = BTreeMap::new();
        for song in SONGS {
            truths.insert(song, analyse(&engine, song).await);
        }
        truths
    };
    TRUTHS.get_or_init(compute).await
}

async fn analyse(engine: &Engine, song: &str) -> Truth {
    let limits = Limits { max_bytes: 1 << 30, max_seconds: 3600 };
    let mut track = engine.track(Box::new(Cursor::new(fixture(song))), None, limits).unwrap();
    let mut patches = Halves::default();
    while track.step_with(|patch| patches.extend(patch.embedding.iter().copied())).await.unwrap() != Step::Finished {}
    let analysis = track.finish().unwrap();
    let vector = Vector {
        model: engine.model().name.clone(),
        flags: analysis.flags(),
        embedding: analysis.embedding,
        tags: analysis.tags,
        seconds: analysis.seconds,
        patches: analysis.patches,
    };
    Truth { vector, patches }
}

async fn truth(job: &Job) -> Truth {
    truths().await[job.track.file.as_str()].clone()
}

/// A coordinator with two songs that verifies every result.
async fn coordinator() -> (Folders, Coordinator) {
    let folders = Folders::with(&[]);
    SONGS.iter().for_each(|name| folders.write(name, &fixture(name)));
    truths().await;
    let mut config = folders.config();
    config.verify = VerifyShare::All;
    let coordinator = Coordinator::start_with(&config).await;
    (folders, coordinator)
}

async fn send_patches(worker: &mut Worker, job: &JobRef, patches: &Halves, length: usize) {
    let per_message = MAX_NUMBERS_PER_MESSAGE / length;
    for (index, numbers) in patches.0.chunks(per_message * length).enumerate() {
        let (first, embeddings) = ((index * per_message) as u32, Halves(numbers.to_vec()));
        worker.say(&ToServer::Patches { job: job.clone(), first, length: length as u16, embeddings }).await;
    }
}

async fn answer(worker: &mut Worker, job: &Job, Truth { vector, patches }: Truth) -> ToWorker {
    send_patches(worker, &job.job, &patches, vector.embedding.len()).await;
    worker.answer(&job.job, Outcome::Done(vector)).await
}

fn refusal(reply: ToWorker) -> String {
    match reply {
        ToWorker::Rejected { reason: RejectionReason::InvalidVector, message, .. } => message,
        other => panic!("no refusal but {other:?}"),
    }
}

/// The mean of the patches, whatever they are, as an honest worker would compute it.
fn mean_of(patches: &Halves, vector: &Vector) -> Vector {
    let length = vector.embedding.len();
    let count = patches.0.len() / length;
    let mean = |place: usize| {
        let sum: f64 = patches.0.iter().skip(place).step_by(length).map(|number| number.to_f64()).sum();
        (sum / count as f64) as f32
    };
    Vector { embedding: (0..length).map(mean).collect(), patches: count as u32, ..vector.clone() }
}

#[tokio::test]
async fn an_honest_result_is_confirmed_and_stored() {
    let (_folders, coordinator) = coordinator().await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    for _ in SONGS {
        let job = worker.job().await;
        let reply = answer(&mut worker, &job, truth(&job).await).await;
        assert!(matches!(reply, ToWorker::Accepted { outcome: AcceptedAs::Stored, .. }), "{reply:?}");
    }
    let metrics = coordinator.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("chaarfm_verifications_total{outcome=\"confirmed\"} 2"), "{metrics}");
    coordinator.stop().await;
}

#[tokio::test]
async fn whoever_invents_patches_is_set_aside_and_nothing_of_it_is_stored() {
    let (_folders, coordinator) = coordinator().await;
    let code = coordinator.scanned().await;
    let lab = invite(&coordinator, code, &json!({ "name": "lab" })).await.code;
    let mut liar = coordinator.join_by(code, lab, "liar").await;
    let job = liar.job().await;
    let Truth { vector, mut patches } = truth(&job).await;
    // Every patch is a copy of the first one: cheap to compute, plausible, and the mean is right.
    let length = vector.embedding.len();
    let first = patches.0[..length].to_vec();
    patches.0.chunks_exact_mut(length).for_each(|patch| patch.copy_from_slice(&first));
    let invented = Truth { vector: mean_of(&patches, &vector), patches };
    let message = refusal(answer(&mut liar, &job, invented).await);
    assert!(message.contains("was computed again, and what the worker sent is"), "{message}");
    let view = coordinator.watch(code, |view| view.workers.iter().any(|w| w.standing == Standing::SetAside)).await;
    assert!(view.log.iter().any(|line| line.message.contains("is set aside: its result for")), "{:?}", view.log);

    // With the same key it gets no more jobs on any connection, and with another key it is not admitted.
    liar.vanish();
    coordinator.watch(code, |view| view.workers.is_empty()).await;
    let mut again = coordinator.join_by(code, lab, "liar").await;
    coordinator.watch(code, |view| view.workers.iter().any(|w| w.standing == Standing::SetAside)).await;
    again.say(&ToServer::Ping).await;
    assert_eq!(again.hear_word().await, ToWorker::Pong);
    again.vanish();
    assert_eq!(refusal_of(&coordinator, lab, "another").await.0, RefusalReason::Full);
    let mut honest = coordinator.join(code).await;
    let other = honest.job().await;
    let reply = answer(&mut honest, &other, truth(&other).await).await;
    assert!(matches!(reply, ToWorker::Accepted { outcome: AcceptedAs::Stored, .. }), "{reply:?}");
    let jobs = coordinator.jobs(code).await;
    let refused = jobs.iter().find(|view| view.track.file == job.track.file).unwrap();
    assert_eq!(refused.state, JobState::Queued, "others are to do it");
    coordinator.stop().await;
}

#[tokio::test]
async fn what_a_liar_delivered_before_is_retracted_and_done_again() {
    let (_folders, coordinator) = coordinator().await;
    let code = coordinator.scanned().await;
    let lab = invite(&coordinator, code, &json!({ "name": "lab" })).await.code;
    let mut liar = coordinator.join_by(code, lab, "liar").await;
    let first = liar.job().await;
    let reply = answer(&mut liar, &first, truth(&first).await).await;
    assert!(matches!(reply, ToWorker::Accepted { outcome: AcceptedAs::Stored, .. }), "{reply:?}");
    let second = liar.job().await;
    let Truth { vector, mut patches } = truth(&second).await;
    let length = vector.embedding.len();
    patches.0.rotate_left(length / 2);
    refusal(answer(&mut liar, &second, Truth { vector: mean_of(&patches, &vector), patches }).await);
    let view = coordinator.watch(code, |view| view.counts.queued == 2).await;
    assert!(view.log.iter().any(|line| line.message.ends_with("is retracted and done again: 1")), "{:?}", view.log);

    let mut honest = coordinator.join(code).await;
    let again = honest.job().await;
    assert_eq!(again.track.file, first.track.file, "the other has failed, and waits");
    let reply = answer(&mut honest, &again, truth(&again).await).await;
    assert!(matches!(reply, ToWorker::Accepted { outcome: AcceptedAs::Stored, .. }), "{reply:?}");
    coordinator.watch(code, |view| view.counts.done == 1).await;
    coordinator.stop().await;
}

#[tokio::test]
async fn a_vector_needs_its_patches_all_of_them_and_their_mean() {
    let (_folders, coordinator) = coordinator().await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join_as(code, "a").await;

    let job = worker.job().await;
    let message = refusal(worker.answer(&job.job, Outcome::Done(vector_for(&job))).await);
    assert_eq!(message, "the vector is not proven: the vector is the mean of 2 patches; 0 came");

    let job = worker.job().await;
    let Truth { mut vector, patches } = truth(&job).await;
    vector.embedding[3] += 0.5;
    let message = refusal(answer(&mut worker, &job, Truth { vector, patches }).await);
    assert!(message.starts_with("the vector is not proven: number 3 of the embedding is"), "{message}");
    coordinator.stop().await;

    // A few seconds of a song do not count as the song, even if they are right.
    let (_folders, coordinator) = self::coordinator().await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join_as(code, "b").await;
    let job = worker.job().await;
    let Truth { vector, mut patches } = truth(&job).await;
    patches.0.truncate(2 * vector.embedding.len());
    let part = Truth { vector: mean_of(&patches, &vector), patches };
    let message = refusal(answer(&mut worker, &job, part).await);
    assert_eq!(message, format!("the track has {} patches; the vector is the mean of 2", vector.patches));
    coordinator.stop().await;
}

#[tokio::test]
async fn what_cannot_be_computed_again_is_believed() {
    let (folders, coordinator) = coordinator().await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;
    let truth = truth(&job).await;
    std::fs::remove_file(folders.file(&job.track.file)).unwrap();
    let reply = answer(&mut worker, &job, truth).await;
    assert!(matches!(reply, ToWorker::Accepted { outcome: AcceptedAs::Stored, .. }), "{reply:?}");
    let metrics = coordinator.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("chaarfm_verifications_total{outcome=\"impossible\"} 1"), "{metrics}");
    coordinator.stop().await;
}
