//! A collection, or a session's jobs, as a file: a snapshot of one moment, generated page by page while it is sent, so that
//! its size does not matter.

mod audit;

use std::{io, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chaarfm_api::TrackView;
use chaarfm_domain::{CollectionName, JobState, SessionId};
use chaarfm_protocol::{JobId, Track};
use chaarfm_store::{Extent, JobRow, MAX_STALL_SECONDS, Snapshot, Store, StoreError, VectorRow};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::timeout};
use utoipa::ToSchema;

pub(crate) use audit::export_audit;

use crate::error::ApiError;

/// Rows read from the database at a time. At most three such pages are in memory: one being sent, one waiting, one being
/// generated.
const PAGE_ROWS: u32 = 200;

/// Time limit for one file: while it is sent, the database must keep all rows replaced since.
const MAX_EXPORT_SECONDS: u64 = 6 * 60 * 60;

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

/// File formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// Comma-separated values: the track's metadata, then `e0`, `e1` and so on. An apostrophe precedes a text that begins
    /// like a formula.
    Csv,
    /// One JSON object per line: [`TrackView`].
    Jsonl,
    /// A NumPy matrix of 32-bit floats, one row per track.
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

    /// The file's bytes before the first row.
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

    fn rows(self, tracks: Vec<VectorRow>) -> io::Result<Vec<u8>> {
        match self {
            Self::Csv => csv_records(tracks.into_iter().map(csv_fields)),
            Self::Jsonl => json_lines(tracks.into_iter().map(track_view)),
            Self::Npy => Ok(tracks.iter().flat_map(|track| &track.embedding).flat_map(|n| n.to_le_bytes()).collect()),
        }
    }
}

/// Responds with the collection, or with the vectors of only one model.
pub(crate) async fn export(
    store: &Store,
    collection: CollectionName,
    format: Format,
    model: Option<String>,
) -> Result<Response, ApiError> {
    let mut snapshot = store.snapshot().await?;
    let extent = snapshot.extent(collection.as_str(), model.as_deref()).await?;
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
    let head = format.head(&extent).map_err(not_written)?;
    Ok((headers, body(snapshot, head, Rows::Vectors { collection, model, format })).into_response())
}

fn not_written(error: io::Error) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the file cannot be written: {error}"))
}

/// The rows of a file, after its head.
enum Rows {
    Vectors { collection: CollectionName, model: Option<String>, format: Format },
    Jobs { session: SessionId, state: Option<JobState>, format: ListFormat },
}

impl Rows {
    /// The page after row number `after`, and the number of its last row; none at the end.
    async fn page(&self, snapshot: &mut Snapshot, after: i64) -> Result<Option<(i64, Vec<u8>)>, Broken> {
        match self {
            Self::Vectors { collection, model, format } => {
                let page = snapshot.vectors_after(collection.as_str(), model.as_deref(), after, PAGE_ROWS).await?;
                let Some(last) = page.last().map(|row| row.id) else { return Ok(None) };
                Ok(Some((last, format.rows(page)?)))
            }
            Self::Jobs { session, state, format } => {
                let page = snapshot.jobs_after(*session, *state, after, PAGE_ROWS).await?;
                let Some(last) = page.last().map(|row| row.job.id) else { return Ok(None) };
                Ok(Some((last, format.rows(page)?)))
            }
        }
    }
}

/// Why a file is incomplete.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Write(#[from] io::Error),
    #[error("nobody has read on for {MAX_STALL_SECONDS} s")]
    Stalled,
    #[error("it has taken longer than {MAX_EXPORT_SECONDS} s")]
    TooLong,
}

/// A piece of a file. A file without its `End` was interrupted.
enum Piece {
    Bytes(Bytes),
    End,
}

/// The file's body, read from the snapshot as fast as it is sent. A stalled client does not keep the snapshot open.
fn body(snapshot: Snapshot, head: Vec<u8>, rows: Rows) -> Body {
    let (pieces, file) = mpsc::channel(1);
    tokio::spawn(async move {
        let limit = Duration::from_secs(MAX_EXPORT_SECONDS);
        let sent = timeout(limit, send(snapshot, head, &rows, &pieces)).await.unwrap_or(Err(Broken::TooLong));
        if let Err(error) = sent {
            tracing::warn!("an export breaks off: {error}");
        }
    });
    Body::from_stream(stream::try_unfold(file, async |mut file: mpsc::Receiver<Piece>| match file.recv().await {
        Some(Piece::Bytes(bytes)) => Ok(Some((bytes, file))),
        Some(Piece::End) => Ok(None),
        None => Err(io::Error::other("the export has broken off")),
    }))
}

async fn send(mut snapshot: Snapshot, head: Vec<u8>, rows: &Rows, pieces: &mpsc::Sender<Piece>) -> Result<(), Broken> {
    let (mut after, mut piece) = (0, Some(head));
    while let Some(bytes) = piece {
        if !pass_on(pieces, Piece::Bytes(bytes.into())).await? {
            return Ok(());
        }
        piece = rows.page(&mut snapshot, after).await?.map(|(last, bytes)| {
            after = last;
            bytes
        });
    }
    // Close first: other exports may begin while the last piece is in transit.
    snapshot.close().await;
    pass_on(pieces, Piece::End).await?;
    Ok(())
}

/// Returns false when the client has disconnected.
async fn pass_on(pieces: &mpsc::Sender<Piece>, piece: Piece) -> Result<bool, Broken> {
    let limit = Duration::from_secs(MAX_STALL_SECONDS);
    timeout(limit, pieces.send(piece)).await.map(|sent| sent.is_ok()).map_err(|_| Broken::Stalled)
}

/// File formats for lists without vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ListFormat {
    /// Comma-separated values.
    Csv,
    /// One JSON object per line.
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
    /// Kind of worker that had it last.
    worker: Option<&'static str>,
}

/// Columns of a CSV file of jobs.
const JOB_COLUMNS: [&str; 9] = ["id", "state", "file", "artist", "title", "album", "error", "attempts", "worker"];

impl From<JobRow> for JobLine {
    fn from(row: JobRow) -> Self {
        let JobRow { job, track, holder_kind, .. } = row;
        let worker = holder_kind.map(|kind| kind.name());
        Self { id: job.id, state: job.state.into(), track, error: job.error, attempts: job.attempts, worker }
    }
}

impl JobLine {
    fn csv_fields(self) -> [String; 9] {
        let Track { artist, title, album, file } = self.track;
        let optional = Option::unwrap_or_default;
        let state = self.state.name().to_owned();
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

/// Responds with the session's jobs, all or those in one state.
pub(crate) async fn export_jobs(
    store: &Store,
    session: SessionId,
    state: Option<JobState>,
    format: ListFormat,
) -> Result<Response, ApiError> {
    let (extension, kind) = match format {
        ListFormat::Csv => ("csv", Format::Csv.media_type()),
        ListFormat::Jsonl => ("jsonl", Format::Jsonl.media_type()),
    };
    let name = format!("attachment; filename=\"jobs.{extension}\"");
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, name)];
    let (snapshot, head) = (store.snapshot().await?, format.head().map_err(not_written)?);
    Ok((headers, body(snapshot, head, Rows::Jobs { session, state, format })).into_response())
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

/// A text that spreadsheets do not interpret: an apostrophe is put before anything like a formula, as OWASP's "CSV
/// Injection" advises. Numbers stay numbers. JSON lines contain texts unchanged.
fn inert(text: String) -> String {
    let looks_like_a_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    if looks_like_a_formula && text.parse::<f64>().is_err() { format!("'{text}") } else { text }
}

/// A vector as sent to clients.
pub(crate) fn track_view(row: VectorRow) -> TrackView {
    let VectorRow { id, track, seconds, content_hash, model, kind, device, flags, stored, embedding, tags } = row;
    let (worker, stored_at_ms) = (kind, stored.0);
    TrackView { id, track, seconds, content_hash, model, device, worker, flags, stored_at_ms, embedding, tags }
}

fn csv_fields(row: VectorRow) -> Vec<String> {
    let VectorRow { track, device, kind, .. } = row;
    let mut fields = vec![
        row.id.to_string(),
        track.artist.unwrap_or_default(),
        track.title.unwrap_or_default(),
        track.album.unwrap_or_default(),
        track.file,
        row.seconds.to_string(),
        row.content_hash,
        row.model,
        device.backend,
        device.name,
        kind.name().to_owned(),
        row.flags.join(" "),
        row.stored.0.to_string(),
    ];
    fields.extend(row.embedding.iter().map(f32::to_string));
    fields
}

/// The header of a NumPy file, format version 1.0: magic, version, length of the description, and the description, padded
/// with spaces so that the numbers begin at a multiple of 64 bytes.
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
