//! Checks a worker's answer: is it about the right file, and does its vector fit the job's model?

use chaarfm_domain::{Embedding, Failure, FailureKind, InvalidVector, ModelSpec, Outcome};

use crate::{Answer, Job, NotYourLease, Timestamp};

/// A worker's answer to a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The vector, or why there is none.
    pub outcome: Outcome,
    /// Hash of the file it received, if reported.
    pub content_hash: Option<String>,
    /// Why verification rejected its vector.
    pub invalid: Option<InvalidVector>,
}

impl From<Outcome> for Said {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, content_hash: None, invalid: None }
    }
}

/// The expected answer to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Name of the model.
    pub model: &'a str,
    /// Shape of that model's vectors; none when this coordinator does not have the model.
    pub spec: Option<ModelSpec>,
    /// BLAKE3 of the file's bytes, in lower-case hexadecimal.
    pub content_hash: &'a str,
}

/// The effect of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// The job's transition.
    pub answer: Answer,
    /// To store together with the job.
    pub embedding: Option<Embedding>,
    /// Why its vector was rejected, if it was.
    pub invalid: Option<InvalidVector>,
}

impl Asked<'_> {
    fn judge(&self, said: Said, invalid: &mut Option<InvalidVector>) -> Result<Embedding, Failure> {
        if said.content_hash.is_some_and(|hash| hash != self.content_hash) {
            return Err(another_content());
        }
        let vector = match said.outcome {
            Outcome::Failed(failure) => return Err(failure),
            Outcome::Done(vector) => vector,
        };
        let spec = self.spec.as_ref().ok_or_else(|| missing(self.model))?;
        let believed = said.invalid.map_or(Ok(()), Err);
        believed.and_then(|()| Embedding::check(spec, vector)).map_err(|reason| {
            let message = reason.to_string();
            *invalid = Some(reason);
            Failure { kind: FailureKind::Passing, message }
        })
    }
}

impl Job {
    /// Applies a worker's answer. A vector that does not fit the job counts as a passing failure.
    ///
    /// # Errors
    /// When the job is not leased under that token.
    pub fn take(&mut self, asked: &Asked<'_>, lease: &str, said: Said, now: Timestamp) -> Result<Taken, NotYourLease> {
        let mut invalid = None;
        let judged = asked.judge(said, &mut invalid);
        let answer = match &judged {
            Ok(_) => self.complete(lease)?,
            Err(failure) => self.fail(lease, failure, now)?,
        };
        Ok(Taken { answer, embedding: judged.ok().filter(|_| answer == Answer::Stored), invalid })
    }
}

/// The file was replaced after the scan, or damaged in transfer: another try tells which.
fn another_content() -> Failure {
    let message =
        "what the worker received is not what the scan found; if the file has changed, scan the library again";
    Failure { kind: FailureKind::Passing, message: message.to_owned() }
}

/// Only another version of this program has the model: the job is for a coordinator that has it.
fn missing(model: &str) -> Failure {
    let message = format!("this coordinator has no model called {model} (any more)");
    Failure { kind: FailureKind::Passing, message }
}

#[cfg(test)]
mod tests {
    use chaarfm_domain::Vector;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn asked(spec: Option<ModelSpec>) -> Asked<'static> {
        Asked { model: "m", spec, content_hash: "a" }
    }

    fn spec() -> Option<ModelSpec> {
        Some(ModelSpec { name: "m".into(), embedding_length: 1, tag_count: 0 })
    }

    fn said(numbers: &[f32], content_hash: &str) -> Said {
        let vector = Vector {
            model: "m".into(),
            embedding: numbers.to_vec(),
            tags: Vec::new(),
            seconds: 3.5,
            patches: 1,
            flags: Vec::new(),
        };
        Said { outcome: Outcome::Done(vector), content_hash: Some(content_hash.to_owned()), invalid: None }
    }

    fn take(asked: &Asked<'_>, said: Said) -> (Taken, Job) {
        let mut job = Job::new(7);
        job.lease("t".into(), "w", NOW).unwrap();
        assert_eq!(job.clone().take(asked, "u", said.clone(), NOW), Err(NotYourLease));
        (job.take(asked, "t", said, NOW).unwrap(), job)
    }

    #[test]
    fn only_what_was_asked_for_is_stored() {
        let (taken, _) = take(&asked(spec()), said(&[1.0], "a"));
        assert_eq!((taken.answer, taken.invalid), (Answer::Stored, None));
        assert_eq!(taken.embedding.unwrap().numbers(), [1.0]);
        for (asked, said, reason) in [
            (asked(spec()), said(&[1.0], "b"), "is not what the scan found"),
            (asked(None), said(&[1.0], "a"), "no model called m"),
            (asked(spec()), said(&[1.0, 2.0], "a"), "has 1 numbers; this one has 2"),
        ] {
            let (taken, job) = take(&asked, said);
            assert!(taken.embedding.is_none() && job.error.as_ref().unwrap().contains(reason), "{job:?}");
            assert_eq!(taken.invalid.is_some(), reason.contains("numbers"));
        }
    }
}
