//! The stored collections, and their downloads.

use std::time::Duration;

use chaarfm_api::CollectionView;
use leptos::prelude::*;

use super::Control;
use crate::{
    api, format,
    parts::{Notice, throttled},
};

/// Shortest interval between fetches of the counts while vectors arrive.
const REFRESH_SECONDS: u64 = 3;

/// Formats of a download, with their purposes.
const FORMATS: [(&str, &str); 3] = [
    ("csv", "A table for spreadsheets: one row a track, its vector in 200 columns"),
    ("jsonl", "One JSON object a line, with everything that is known of the track"),
    ("npy", "The bare matrix for NumPy: float32, tracks × 200"),
];

#[component]
pub(crate) fn Collections() -> impl IntoView {
    let control = expect_context::<Control>();
    let done = throttled(control.pick(|view| view.counts.done), Duration::from_secs(REFRESH_SECONDS));
    let collections = LocalResource::new(move || {
        control.track_connection();
        done.track();
        api::collections()
    });
    view! {
        <section class="card">
            <h2>"Collections"</h2>
            {move || match collections.get() {
                None => view! { <p class="hint">"Fetching…"</p> }.into_any(),
                Some(Err(error)) => view! { <Notice tone="error">{format::sentence(&error.to_string())}</Notice> }.into_any(),
                Some(Ok(list)) if list.is_empty() => {
                    view! {
                        <p class="empty">"Nothing is stored yet. Each finished track puts its vector into a collection."</p>
                    }
                        .into_any()
                }
                Some(Ok(list)) => {
                    view! { <ul class="collections" id="collections">{list.into_iter().map(collection).collect_view()}</ul> }
                        .into_any()
                }
            }}
        </section>
    }
}

fn collection(collection: CollectionView) -> impl IntoView {
    let name = collection.name.clone();
    let downloads = FORMATS.map(|(format, title)| {
        let label = format!("Download {name} as {format}");
        view! { <a class="download" href=api::export_url(&name, format) title=title aria-label=label download>{format}</a> }
    });
    view! {
        <li>
            <p class="collection-name">{collection.name}</p>
            <p class="hint">{format::counted(collection.tracks, "track", "tracks")}</p>
            <p class="downloads">{downloads.into_iter().collect_view()}</p>
        </li>
    }
}
