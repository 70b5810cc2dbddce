//! The audit record: who joined, who was refused or set aside, and who gave which command.

use chaarfm_api::AuditView;
use chaarfm_domain::AuditEvent;
use leptos::prelude::*;

use super::Control;
use crate::{
    api::{self, MAX_AUDIT_SHOWN},
    format,
    parts::{Notice, local_day_and_time},
};

/// Number of entries shown at first, and added by each press of the button.
const ENTRIES_PER_PRESS: usize = 50;

/// Formats of the record as a file.
const FORMATS: [&str; 2] = ["csv", "jsonl"];

/// Number of hexadecimal digits shown of a key's hash: enough to tell workers apart.
const SHOWN_DIGITS: usize = 8;

/// Fetches the record when it is opened, and again when more entries are requested.
#[component]
pub(crate) fn Audit() -> impl IntoView {
    let control = expect_context::<Control>();
    let is_open = RwSignal::new(false);
    let want = RwSignal::new(ENTRIES_PER_PRESS);
    let refreshes = RwSignal::new(0_u32);
    let entries = LocalResource::new(move || {
        control.track_connection();
        refreshes.track();
        let (is_open, want) = (is_open.get(), want.get());
        async move { if is_open { api::audit(want).await } else { Ok(Vec::new()) } }
    });
    let listed = Memo::new(move |_| entries.get().and_then(Result::ok).unwrap_or_default());
    let problem = move || entries.get().and_then(Result::err).map(|error| format::sentence(&error.to_string()));
    let has_more = move || {
        let shown = listed.with(Vec::len);
        shown >= want.get() && shown < MAX_AUDIT_SHOWN
    };
    let download = |format: &'static str| {
        let label = format!("Download the audit record as {format}");
        view! { <a class="download" href=api::audit_export_url(format) aria-label=label download>{format}</a> }
    };
    view! {
        <details class="card disclosure" id="audit" on:toggle:target=move |event| is_open.set(event.target().open())>
            <summary>
                <h2>"Audit record"</h2>
            </summary>
            <div class="disclosure-actions">
                <button type="button" class="quiet" on:click=move |_| refreshes.update(|count| *count += 1)>
                    "Refresh"
                </button>
                <p class="downloads">
                    <span class="hint">"All of the last 90 days as"</span>
                    {FORMATS.map(download).into_iter().collect_view()}
                </p>
            </div>
            {move || problem().map(|problem| view! { <Notice tone="error">{problem}</Notice> })}
            <ul class="records" id="audit-list" tabindex="0" aria-label="Audit record, the newest entry first">
                <For each=move || listed.get() key=|view| view.id children=entry />
            </ul>
            <Show when=has_more>
                <button type="button" class="quiet" on:click=move |_| want.update(|want| *want += ENTRIES_PER_PRESS)>
                    "Show more"
                </button>
            </Show>
        </details>
    }
}

fn entry(AuditView { entry, .. }: AuditView) -> impl IntoView {
    let session = entry.session.map(|session| format!("session {session}"));
    let address = Some(entry.address).filter(|address| !address.is_empty()).map(|address| format!("from {address}"));
    let when = local_day_and_time(entry.at_ms);
    let facts: Vec<_> = [Some(when), session, address].into_iter().flatten().collect();
    view! {
        <li>
            <p class="track">{title(entry.event, &entry.actor)}</p>
            <p>{entry.detail}</p>
            <p class="hint">{facts.join(" · ")}</p>
        </li>
    }
}

/// The event with its actor. Workers are identified by a part of their key's hash.
fn title(event: AuditEvent, actor: &str) -> String {
    let worker = format!("Worker {}", actor.get(..SHOWN_DIGITS).unwrap_or(actor));
    match event {
        AuditEvent::Entered => "A browser was let in".to_owned(),
        AuditEvent::Commanded => format!("Command by {actor}"),
        AuditEvent::Joined => format!("{worker} joined"),
        AuditEvent::Refused => "A worker was refused".to_owned(),
        AuditEvent::SetAside => format!("{worker} was set aside"),
        AuditEvent::Retracted => format!("Results of {} were retracted", worker.to_lowercase()),
        AuditEvent::Lost => "Entries are missing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_title_says_who_did_what() {
        let key = "0123456789abcdef".repeat(4);
        assert_eq!(title(AuditEvent::Joined, &key), "Worker 01234567 joined");
        assert_eq!(title(AuditEvent::Retracted, &key), "Results of worker 01234567 were retracted");
        assert_eq!(title(AuditEvent::SetAside, "ab"), "Worker ab was set aside");
        assert_eq!(title(AuditEvent::Commanded, "the token ci"), "Command by the token ci");
    }
}
