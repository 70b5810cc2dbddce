//! A collection, or a session's jobs, as a file, made page by page while it is sent, so that its size does not matter.

use std::io;

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chaarfm_coordinator::CollectionName;
use chaarfm_protocol::{
    JobId, Track,
    view::{JobState, TrackView},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::ApiError,
    store::{Extent, JobRow, SessionId, Store, state_name, view_state},
};

/// Rows read from the database at a time.
const PAGE_ROWS: u32 = 500;

/// Columns of a CSV file before the embedding's.
const CSV_COLUMNS: [&str; 13] = [
    "id",
    "artist",
    "title",
    "album",
    "file",
    "seconds",
    "content_hash",
    "model",
    "backend",
    "device",
    "worker",
    "flags",
    "stored_at_ms",
];

/// The kinds of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// Comma-separated values: what is known of the track, then `e0`, `e1` and so on. A text that begins like a formula has an
    /// apostrophe before it.
    Csv,
    /// A JSON object a line: [`TrackView`].
    Jsonl,
    /// A NumPy matrix of 32-bit floats, a row for each track.
    Npy,
}

impl Format {
    fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Npy => "npy",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Jsonl => "application/x-ndjson",
            Self::Npy => "application/octet-stream",
        }
    }

    /// What stands before the first row.
    fn head(self, extent: &Extent) -> io::Result<Vec<u8>> {
        match self {
            Self::Csv => {
                let numbers = (0..extent.lengths.1).map(|index| format!("e{index}"));
                let columns = CSV_COLUMNS.iter().map(|name| (*name).to_owned()).chain(numbers);
                csv_records(std::iter::once(columns))
            }
            Self::Jsonl => Ok(Vec::new()),
            Self::Npy => Ok(npy_head(extent.rows, extent.lengths.1)),
        }
    }

    fn rows(self, tracks: &[TrackView]) -> io::Result<Vec<u8>> {
        match self {
            Self::Csv => csv_records(tracks.iter().map(csv_fields)),
            Self::Jsonl => json_lines(tracks.iter()),
            Self::Npy => Ok(tracks.iter().flat_map(|track| &track.embedding).flat_map(|n| n.to_le_bytes()).collect()),
        }
    }
}

/// Answers with the collection, or with the part of it that one model made.
pub(crate) async fn export(
    store: &Store,
    collection: CollectionName,
    format: Format,
    model: Option<String>,
) -> Result<Response, ApiError> {
    let extent = store.extent(collection.as_str(), model.as_deref()).await?;
    if extent.rows == 0 {
        let of = model.map(|model| format!(" of model {model}")).unwrap_or_default();
        return Err(ApiError::not_found(format!("the collection {collection} has no vectors{of}")));
    }
    if extent.lengths.0 != extent.lengths.1 || (format == Format::Npy && extent.models > 1) {
        let message = format!("{collection} has vectors of {} models; choose one with model=NAME", extent.models);
        return Err(ApiError::new(StatusCode::CONFLICT, message));
    }
    let name = format!("attachment; filename=\"{collection}.{}\"", format.extension());
    let headers = [(header::CONTENT_TYPE, format.media_type().to_owned()), (header::CONTENT_DISPOSITION, name)];
    let pages = Pages { store: store.clone(), collection, model, format, extent, after: None };
    let body = Body::from_stream(stream::try_unfold(pages, async |mut pages| {
        Ok::<_, io::Error>(pages.next().await?.map(|bytes| (bytes, pages)))
    }));
    Ok((headers, body).into_response())
}

struct Pages {
    store: Store,
    collection: CollectionName,
    model: Option<String>,
    format: Format,
    extent: Extent,
    /// Number of the last row sent; none before the head.
    after: Option<i64>,
}

impl Pages {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some(after) = self.after else {
            self.after = Some(0);
            return Ok(Some(self.format.head(&self.extent)?.into()));
        };
        let (collection, model) = (self.collection.as_str(), self.model.as_deref());
        let tracks = self.store.vectors_between(collection, model, after, self.extent.last_id, PAGE_ROWS);
        let tracks = tracks.await.map_err(|error| {
            tracing::error!("the export of {collection} breaks off: {error}");
            io::Error::other(error)
        })?;
        let Some(last) = tracks.last() else { return Ok(None) };
        self.after = Some(last.id);
        Ok(Some(self.format.rows(&tracks)?.into()))
    }
}

/// The kinds of file for lists without vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ListFormat {
    /// Comma-separated values.
    Csv,
    /// A JSON object a line.
    Jsonl,
}

/// A job in an export; its fields are the columns.
#[derive(Serialize)]
struct JobLine {
    id: JobId,
    state: JobState,
    #[serde(flatten)]
    track: Track,
    error: Option<String>,
    attempts: u32,
    /// Kind of the worker that had it last.
    worker: Option<&'static str>,
}

/// Columns of a CSV file of jobs.
const JOB_COLUMNS: [&str; 9] = ["id", "state", "file", "artist", "title", "album", "error", "attempts", "worker"];

impl From<JobRow> for JobLine {
    fn from(row: JobRow) -> Self {
        let JobRow { job, track, holder_kind, .. } = row;
        let worker = holder_kind.map(|kind| kind.name());
        Self { id: job.id, state: view_state(job.state), track, error: job.error, attempts: job.attempts, worker }
    }
}

impl JobLine {
    fn csv_fields(self) -> [String; 9] {
        let Track { artist, title, album, file } = self.track;
        let optional = Option::unwrap_or_default;
        let state = state_name(self.state).to_owned();
        let (attempts, worker) = (self.attempts.to_string(), self.worker.unwrap_or_default().to_owned());
        let id = self.id.to_string();
        [id, state, file, optional(artist), optional(title), optional(album), optional(self.error), attempts, worker]
    }
}

impl ListFormat {
    fn head(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Csv => csv_records(std::iter::once(JOB_COLUMNS.map(str::to_owned))),
            Self::Jsonl => Ok(Vec::new()),
        }
    }

    fn rows(self, jobs: Vec<JobRow>) -> io::Result<Vec<u8>> {
        let lines = jobs.into_iter().map(JobLine::from);
        match self {
            Self::Csv => csv_records(lines.map(JobLine::csv_fields)),
            Self::Jsonl => json_lines(lines),
        }
    }
}

/// Answers with the session's jobs, those of one state or all.
pub(crate) fn export_jobs(store: &Store, session: SessionId, state: Option<JobState>, format: ListFormat) -> Response {
    let (extension, kind) = match format {
        ListFormat::Csv => ("csv", Format::Csv.media_type()),
        ListFormat::Jsonl => ("jsonl", Format::Jsonl.media_type()),
    };
    let name = format!("attachment; filename=\"jobs.{extension}\"");
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, name)];
    let pages = JobPages { store: store.clone(), session, state, format, after: None };
    let body = Body::from_stream(stream::try_unfold(pages, async |mut pages| {
        Ok::<_, io::Error>(pages.next().await?.map(|bytes| (bytes, pages)))
    }));
    (headers, body).into_response()
}

struct JobPages {
    store: Store,
    session: SessionId,
    state: Option<JobState>,
    format: ListFormat,
    /// Number of the last job sent; none before the head.
    after: Option<JobId>,
}

impl JobPages {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some(after) = self.after else {
            self.after = Some(0);
            return Ok(Some(self.format.head()?.into()));
        };
        let jobs = self.store.jobs_after(self.session, self.state, after, PAGE_ROWS).await.map_err(|error| {
            tracing::error!("the export of jobs breaks off: {error}");
            io::Error::other(error)
        })?;
        let Some(last) = jobs.last() else { return Ok(None) };
        self.after = Some(last.job.id);
        Ok(Some(self.format.rows(jobs)?.into()))
    }
}

fn json_lines(values: impl Iterator<Item = impl Serialize>) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for value in values {
        serde_json::to_writer(&mut lines, &value)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn csv_records<R>(records: impl Iterator<Item = R>) -> io::Result<Vec<u8>>
where
    R: IntoIterator<Item = String>,
{
    let mut writer = csv::Writer::from_writer(Vec::new());
    for record in records {
        writer.write_record(record.into_iter().map(inert))?;
    }
    writer.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

/// A text that spreadsheets take for a text: with an apostrophe before what they would take for a formula, as OWASP's "CSV
/// Injection" advises. Numbers stay numbers. The JSON lines have every text as it is.
fn inert(text: String) -> String {
    let looks_like_a_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    if looks_like_a_formula && text.parse::<f64>().is_err() { format!("'{text}") } else { text }
}

fn csv_fields(view: &TrackView) -> Vec<String> {
    let track = &view.track;
    let mut fields = vec![
        view.id.to_string(),
        track.artist.clone().unwrap_or_default(),
        track.title.clone().unwrap_or_default(),
        track.album.clone().unwrap_or_default(),
        track.file.clone(),
        view.seconds.to_string(),
        view.content_hash.clone(),
        view.model.clone(),
        view.device.backend.clone(),
        view.device.name.clone(),
        view.worker.name().to_owned(),
        view.flags.join(" "),
        view.stored_at_ms.to_string(),
    ];
    fields.extend(view.embedding.iter().map(f32::to_string));
    fields
}

/// The head of a NumPy file, version 1.0 of its format: magic, version, length of the description, the description, which
/// is filled up with spaces so that the numbers begin at a multiple of 64 bytes.
fn npy_head(rows: u64, columns: usize) -> Vec<u8> {
    const PREFIX: &[u8] = b"\x93NUMPY\x01\x00";
    const ALIGNMENT: usize = 64;
    let mut description = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let unpadded = PREFIX.len() + size_of::<u16>() + description.len() + 1;
    description.push_str(&" ".repeat(unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    description.push('\n');
    let length = u16::try_from(description.len()).expect("two numbers do not fill 64 KiB");
    [PREFIX, &length.to_le_bytes(), description.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npy_numbers_begin_where_numpy_wants_them() {
        for rows in [1, 12_345_678_901] {
            let head = npy_head(rows, 200);
            assert_eq!(head.len() % 64, 0);
            assert_eq!(usize::from(u16::from_le_bytes([head[8], head[9]])), head.len() - 10);
            assert!(String::from_utf8_lossy(&head[10..]).contains(&format!("'shape': ({rows}, 200)")));
            assert_eq!(head.last(), Some(&b'\n'));
        }
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let record = ["a,b", "c\"d", "e"].map(str::to_owned);
        assert_eq!(csv_records(std::iter::once(record)).unwrap(), b"\"a,b\",\"c\"\"d\",e\n");
    }

    #[test]
    fn csv_has_no_formulas() {
        let record = ["=1+1", "+cmd", "-0.25", "-1e-7", "@x", "\tx", "a=b", "-", ""].map(str::to_owned);
        assert_eq!(csv_records(std::iter::once(record)).unwrap(), b"'=1+1,'+cmd,-0.25,-1e-7,'@x,'\tx,a=b,'-,\n");
    }
}
