//! Export of the audit record, the newest entry first.

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use chaarfm_api::AuditView;
use chaarfm_store::Store;
use futures_util::stream;

use super::{Broken, Format, ListFormat, PAGE_ROWS, csv_records, json_lines};

/// Columns of the CSV file.
const COLUMNS: [&str; 7] = ["id", "at_ms", "event", "session", "actor", "address", "detail"];

/// Answers with the whole record. Entries never change, so pages are read as the answer proceeds.
pub(crate) fn export_audit(store: &Store, format: ListFormat) -> Response {
    let (extension, kind) = match format {
        ListFormat::Csv => ("csv", Format::Csv.media_type()),
        ListFormat::Jsonl => ("jsonl", Format::Jsonl.media_type()),
    };
    let name = format!("attachment; filename=\"audit.{extension}\"");
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, name)];
    let store = store.clone();
    let pages = stream::try_unfold(Place::Head, move |place| {
        let store = store.clone();
        async move { page(&store, format, place).await }
    });
    (headers, Body::from_stream(pages)).into_response()
}

/// Progress of the export.
enum Place {
    Head,
    /// The entries before this number are next; all entries if there is none.
    Before(Option<i64>),
}

async fn page(store: &Store, format: ListFormat, place: Place) -> Result<Option<(Bytes, Place)>, Broken> {
    let before = match place {
        Place::Head if format == ListFormat::Csv => {
            let head = csv_records(std::iter::once(COLUMNS.map(str::to_owned)))?;
            return Ok(Some((head.into(), Place::Before(None))));
        }
        Place::Head => None,
        Place::Before(before) => before,
    };
    let entries = store.audit(before, PAGE_ROWS).await?;
    let Some(&(last, _)) = entries.last() else { return Ok(None) };
    let entries = entries.into_iter().map(|(id, entry)| AuditView { id, entry });
    let bytes = match format {
        ListFormat::Csv => csv_records(entries.map(fields))?,
        ListFormat::Jsonl => json_lines(entries)?,
    };
    Ok(Some((bytes.into(), Place::Before(Some(last)))))
}

fn fields(AuditView { id, entry }: AuditView) -> [String; 7] {
    let session = entry.session.map(|session| session.to_string()).unwrap_or_default();
    let (at_ms, event) = (entry.at_ms.to_string(), entry.event.name().to_owned());
    [id.to_string(), at_ms, event, session, entry.actor, entry.address, entry.detail]
}
