//! Handles messages from workers.

use std::time::Duration;

use chaarfm_coordinator::{Answer, Fault, Held, NotYourLease, Said, Worker, WorkerId};
use chaarfm_domain::{LogLevel, text};
use chaarfm_protocol::{
    AcceptedAs, Capacity, Device, FailureKind, JobRef, Outcome, ProgramRef, RefusalReason, RejectionReason, ToServer,
    ToWorker, Trial, VERSION, WorkerKind,
    limits::{HANDSHAKE_TIMEOUT_SECONDS, MAX_JOBS_PER_WORKER, MAX_TEXT_CHARS},
};
use chaarfm_store::{Answered, Invitation, JobRow, Maker, Refusal, SessionRow, StoreError};
use tokio::{sync::mpsc, time::timeout};
use tracing::Instrument;

use super::{ActiveSession, Hub};
use crate::{
    metrics::{LeaseEnd, ResultOutcome},
    models, spans,
};

/// Maximum number of workers per session.
pub(super) const MAX_WORKERS_PER_SESSION: usize = 10_000;

/// A worker that has waited longer than this is rejected: it is about to abandon this connection, and the leases it brings
/// would be lost with it. That happens when many workers connect at once, or a long queue is being cleared.
const MAX_JOIN_WAIT_SECONDS: u64 = HANDSHAKE_TIMEOUT_SECONDS * 4 / 5;

/// Maximum number of flags stored with a vector, and their maximum length.
const MAX_FLAGS: usize = 8;
const MAX_FLAG_CHARS: usize = 32;

/// A worker's introduction, with its texts truncated.
#[derive(Debug, Clone)]
pub(crate) struct Hello {
    /// Hash of its key.
    pub(crate) key: String,
    pub(crate) agent: String,
    pub(crate) kind: WorkerKind,
    pub(crate) device: Device,
    pub(crate) trial: Trial,
    pub(crate) capacity: Capacity,
    pub(crate) holding: Vec<JobRef>,
}

/// How a worker is admitted.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    pub(crate) invitation: Invitation,
    /// It has joined before.
    pub(crate) is_known: bool,
    /// It has been set aside before; true if it has lied.
    pub(crate) set_aside: Option<bool>,
    /// From where it comes; empty when that is not known.
    pub(crate) address: String,
}

/// A worker that was admitted.
pub(crate) struct Joined {
    pub(crate) id: WorkerId,
    /// Messages to send first.
    pub(crate) greeting: Vec<ToWorker>,
    /// Messages to send later. It ends when the coordinator wants to close the connection.
    pub(crate) outgoing: mpsc::Receiver<ToWorker>,
}

/// Why a worker is rejected.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Denial {
    pub(crate) reason: RefusalReason,
    pub(crate) message: String,
    /// The program to download, when the worker is too old.
    pub(crate) get: Option<ProgramRef>,
}

impl Denial {
    pub(crate) fn new(reason: RefusalReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), get: None }
    }
}

impl From<Denial> for ToWorker {
    fn from(Denial { reason, message, get }: Denial) -> Self {
        Self::Refused { reason, message, get }
    }
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Farewell {
    /// The worker said goodbye.
    Bye,
    /// The connection was lost, for this reason.
    Lost(String),
    /// The coordinator stops. The worker keeps its leases and resumes them at the next process.
    Shutdown,
}

impl Hub {
    /// Admits a worker and restores the leases it still holds, or rejects it.
    pub(crate) async fn join(
        &self,
        active: &ActiveSession,
        hello: Hello,
        guest: &Guest,
    ) -> Result<Result<Joined, Denial>, StoreError> {
        let limit = Duration::from_secs(MAX_JOIN_WAIT_SECONDS);
        let Ok(_transition) = timeout(limit, active.transition.lock()).await else {
            let message = format!("the session is busy: nobody could be let in for {MAX_JOIN_WAIT_SECONDS} s");
            return Ok(Err(Denial::new(RefusalReason::Full, message)));
        };
        let Some(row) = self.open_row(active).await? else { return Ok(Err(session_ended())) };
        if active.worker_count() >= MAX_WORKERS_PER_SESSION {
            let message = format!("the session has {MAX_WORKERS_PER_SESSION} workers, and takes no more");
            return Ok(Err(Denial::new(RefusalReason::Full, message)));
        }
        if let Some(denial) = self.receive(active, &hello.key, guest).await? {
            return Ok(Err(denial));
        }
        if let Some(has_lied) = guest.set_aside
            && active.set_aside(&hello.key, has_lied)
        {
            self.bar(active, &hello.key).await;
        }
        let now = self.now();
        let id = self.store.next_worker().await?;
        let mut worker = Worker::new(id, hello.key, hello.kind, hello.device, hello.agent, hello.capacity, now);
        (worker.trial, worker.invitation) = (hello.trial, guest.invitation.id);
        let mut rejections = Vec::new();
        for (index, job) in hello.holding.into_iter().enumerate() {
            if worker.holds(&job) {
                continue;
            }
            match self.resume(active, &worker.name, &job, index).await? {
                Ok(row) => worker.held.push(Held::brought_along(&row.job, row.track.label(), row.bytes)),
                Err(refusal) => rejections.push(rejection(job, &refusal)),
            }
        }
        let notice = format!("worker {id} joined: {}", describe(&worker));
        let outgoing = active.join(worker);
        spans::worker(active.id, id).in_scope(|| active.log(LogLevel::Info, notice));
        self.wake(active);
        let greeting = std::iter::once(welcome(&row)).chain(rejections).collect();
        Ok(Ok(Joined { id, greeting, outgoing }))
    }

    /// The session, unless it has ended.
    pub(super) async fn open_row(&self, active: &ActiveSession) -> Result<Option<SessionRow>, StoreError> {
        Ok(self.store.session(&active.code).await?.filter(|row| !row.flags.ended))
    }

    /// Continues a lease that the same worker had before.
    async fn resume(
        &self,
        active: &ActiveSession,
        key: &str,
        job: &JobRef,
        index: usize,
    ) -> Result<Result<JobRow, Refusal>, StoreError> {
        if index >= usize::from(MAX_JOBS_PER_WORKER) {
            return Ok(Err(NotYourLease.into()));
        }
        let now = self.now();
        let resumed = self.store.decide(active.id, job.job, |row| row.resume(key, &job.lease, now)).await?;
        Ok(resumed.map(|(row, ())| row))
    }

    /// Handles a message, and returns the answer to it.
    pub(crate) async fn handle(
        &self,
        active: &ActiveSession,
        id: WorkerId,
        maker: &Maker,
        message: ToServer,
    ) -> Result<Option<ToWorker>, StoreError> {
        match message {
            ToServer::Progress { job, stage, fraction } => {
                let noted = active.report(id, &job, stage, fraction);
                Ok(noted.err().map(|refusal| rejection(job, &refusal.into())))
            }
            ToServer::Patches { job, first, length, embeddings } => {
                active.add_evidence(id, &job, first, length, &embeddings);
                Ok(None)
            }
            ToServer::Result { job, outcome, content_hash } => {
                let span = spans::job(active.id, Some(id), job.job);
                self.take_result(active, id, maker, job, outcome, content_hash).instrument(span).await.map(Some)
            }
            ToServer::Release { job } => {
                let span = spans::job(active.id, Some(id), job.job);
                self.take_released(active, id, job, "handed back").instrument(span).await.map(|()| None)
            }
            ToServer::Ping => Ok(Some(ToWorker::Pong)),
            ToServer::Hello { .. } | ToServer::Bye | ToServer::Pong | ToServer::Unknown => Ok(None),
        }
    }

    /// Queues a job again that a worker hands back, or fails wrongly.
    async fn take_released(
        &self,
        active: &ActiveSession,
        id: WorkerId,
        job: JobRef,
        what: &str,
    ) -> Result<(), StoreError> {
        let released = self.store.decide(active.id, job.job, |row| row.release(&job.lease, self.now())).await?;
        // Not earlier: otherwise the worker could get another job before this one counts against it.
        active.take(&job);
        if let Ok((row, answer)) = released {
            self.metrics.lease_ended(LeaseEnd::Released);
            let what = format!("worker {id} {what} {}", row.track.label());
            note_return(active, answer, LogLevel::Info, &what);
            self.hold_against(active, id, &row.job, Fault::TrackOrWorker).await?;
        }
        self.wake_all(active);
        Ok(())
    }

    async fn take_result(
        &self,
        active: &ActiveSession,
        id: WorkerId,
        maker: &Maker,
        job: JobRef,
        mut outcome: Outcome,
        content_hash: Option<String>,
    ) -> Result<ToWorker, StoreError> {
        let mut failed = None;
        match &mut outcome {
            Outcome::Failed(failure) => {
                failed = Some(failure.kind);
                failure.message = text::cut(&failure.message, MAX_TEXT_CHARS);
            }
            Outcome::Done(vector) => {
                // A wrong model name is quoted in an error.
                vector.model = text::cut(&vector.model, MAX_TEXT_CHARS);
                vector.flags.truncate(MAX_FLAGS);
                vector.flags.iter_mut().for_each(|flag| *flag = text::cut(flag, MAX_FLAG_CHARS));
            }
        }
        // Neither the track nor the other workers suffer from a failure that is certainly not the track's.
        if failed == Some(FailureKind::Permanent) && self.can_read(id, &job, content_hash.as_deref()).await? {
            self.take_released(active, id, job.clone(), "calls broken what can be read here:").await?;
            active.count_failed(id);
            return Ok(ToWorker::Accepted { job, outcome: AcceptedAs::Recorded });
        }
        let evidence = active.take_evidence(id, &job);
        let invalid = match &outcome {
            Outcome::Done(vector) => self.verify(active, id, maker, &job, vector, evidence).await?,
            Outcome::Failed(_) => None,
        };
        let said = Said { outcome, content_hash: content_hash.clone(), invalid };
        let answered = self.store.answer(active.id, &job, said, maker, self.now()).await?;
        if let Ok(Answered { row, .. }) = &answered
            && row.is_about_another(content_hash.as_deref())
        {
            failed = Some(FailureKind::Passing);
        }
        let given = active.take(&job).and_then(|(_, held)| held.given);
        self.metrics.result(counted_as(&answered, failed));
        let reply = match answered {
            Ok(Answered { answer: Answer::Repeated, .. }) => {
                tracing::debug!("a result of worker {id} came again");
                ToWorker::Accepted { job, outcome: AcceptedAs::Repeated }
            }
            Ok(Answered { row, answer: Answer::Stored, duplicate }) => {
                active.count_done(id, &maker.key, given);
                let label = row.track.label();
                match duplicate {
                    false => active.log(LogLevel::Success, format!("stored {label} (worker {id})")),
                    true => active.log(LogLevel::Info, format!("{label} is known by now (worker {id})")),
                }
                ToWorker::Accepted { job, outcome: AcceptedAs::Stored }
            }
            Ok(Answered { row, answer, .. }) => {
                let what = format!("worker {id} failed {}", label_and_error(&row));
                note_return(active, answer, LogLevel::Warning, &what);
                let fault = match failed {
                    Some(FailureKind::Passing) => Fault::Storage { given },
                    // The worker had the very file, and all decoders are the same; or the file no longer exists.
                    Some(FailureKind::Permanent) if content_hash.is_some() || self.was_gone(row.job.id) => Fault::Track,
                    _ => Fault::TrackOrWorker,
                };
                self.note_failure(active, id, &row.job, fault).await?;
                ToWorker::Accepted { job, outcome: AcceptedAs::Recorded }
            }
            Err(refusal) => {
                if let Refusal::InvalidVector(_, returned) = &refusal {
                    let (row, answer) = returned.as_ref();
                    let what = format!("refused the vector of worker {id} for {}", label_and_error(row));
                    note_return(active, *answer, LogLevel::Warning, &what);
                    self.note_failure(active, id, &row.job, Fault::TrackOrWorker).await?;
                } else {
                    active.log(LogLevel::Warning, format!("refused a result of worker {id}: {refusal}"));
                }
                rejection(job, &refusal)
            }
        };
        self.wake_all(active);
        Ok(reply)
    }

    /// Removes a worker and takes back the jobs it holds.
    pub(crate) async fn leave(&self, active: &ActiveSession, id: WorkerId, farewell: Farewell) {
        let _transition = active.transition.lock().await;
        let Some(worker) = active.leave(id) else { return };
        match &farewell {
            Farewell::Shutdown => return,
            Farewell::Bye => active.log(LogLevel::Info, format!("worker {id} left")),
            Farewell::Lost(reason) => active.log(LogLevel::Warning, format!("worker {id} is gone: {reason}")),
        }
        for held in worker.held {
            let span = spans::job(active.id, Some(id), held.job.job);
            if let Err(error) = self.take_back(active, &held, &farewell).instrument(span.clone()).await {
                // The lease will expire by itself.
                span.in_scope(|| tracing::error!("the job could not be taken back: {error}"));
            }
        }
        self.wake_all(active);
    }

    async fn take_back(&self, active: &ActiveSession, held: &Held, farewell: &Farewell) -> Result<(), StoreError> {
        let (job, number) = (&held.job, held.number);
        let ended = self.store.decide(active.id, job.job, |row| match farewell {
            Farewell::Lost(reason) => {
                row.lose(&job.lease, number, &format!("the worker was lost: {reason}"), self.now())
            }
            Farewell::Bye | Farewell::Shutdown => row.release(&job.lease, self.now()),
        });
        if let Ok((row, answer)) = ended.await? {
            let (reason, what) = match farewell {
                Farewell::Lost(_) => (LeaseEnd::Lost, label_and_error(&row)),
                Farewell::Bye | Farewell::Shutdown => (LeaseEnd::Released, row.track.label()),
            };
            self.metrics.lease_ended(reason);
            note_return(active, answer, LogLevel::Info, &format!("took back {what}"));
        }
        Ok(())
    }
}

/// The metric for the answer to a worker's result; `failed` is the kind of failure that the worker reported, if any.
fn counted_as(answered: &Result<Answered, Refusal>, failed: Option<FailureKind>) -> ResultOutcome {
    match answered {
        Ok(Answered { answer: Answer::Repeated, .. }) => ResultOutcome::Repeated,
        Ok(Answered { answer: Answer::Stored, duplicate: true, .. }) => ResultOutcome::Duplicate,
        Ok(Answered { answer: Answer::Stored, .. }) => ResultOutcome::Stored,
        Ok(_) if failed == Some(FailureKind::Passing) => ResultOutcome::FailedPassing,
        // Without a reported failure, the job's model is missing, and no worker can do it.
        Ok(_) => ResultOutcome::FailedPermanent,
        Err(Refusal::InvalidVector(..)) => ResultOutcome::Invalid,
        Err(Refusal::UnknownJob | Refusal::NotYourLease(_)) => ResultOutcome::Refused,
    }
}

/// Logs the outcome of a job that came back without a vector.
pub(super) fn note_return(active: &ActiveSession, answer: Answer, level: LogLevel, what: &str) {
    match answer {
        Answer::GivenUp => active.log(LogLevel::Error, format!("{what}; it is given up")),
        _ => active.log(level, format!("{what}; it is queued again")),
    }
}

/// The track, and why its last attempt failed.
pub(super) fn label_and_error(row: &JobRow) -> String {
    format!("{}: {}", row.track.label(), row.job.error.as_deref().unwrap_or("for no known reason"))
}

fn describe(worker: &Worker) -> String {
    format!("{}, {} on {}", worker.kind.name(), worker.device.backend, worker.device.name)
}

fn welcome(row: &SessionRow) -> ToWorker {
    let model = models::reference(&row.model).or_else(|| models::reference(models::default_name()));
    ToWorker::Welcome {
        protocol: VERSION,
        session: row.id.to_string(),
        state: row.flags.state(&row.counts),
        model: model.expect("the default model exists"),
    }
}

pub(super) fn rejection(job: JobRef, refusal: &Refusal) -> ToWorker {
    let reason = match refusal {
        Refusal::UnknownJob => RejectionReason::UnknownJob,
        Refusal::NotYourLease(_) => RejectionReason::NotYourLease,
        Refusal::InvalidVector(..) => RejectionReason::InvalidVector,
    };
    ToWorker::Rejected { job, reason, message: refusal.to_string() }
}

pub(super) fn session_ended() -> Denial {
    Denial::new(RefusalReason::SessionEnded, "the session has ended")
}
