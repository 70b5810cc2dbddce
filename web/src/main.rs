//! The pages: the control page (`/ingest`), the browser worker's page (`/join`) and a start page.
//!
//! They show the state of the coordinator and the Web Worker and keep none of their own. Not here: the analysis, which
//! `chaarfm-worker-web` runs in a Web Worker beside the page.

#![expect(unreachable_pub, reason = "components are made `pub` by their macro, whatever is written")]

mod api;
mod events;
mod format;
mod gpu;
mod home;
mod ingest;
mod join;
mod lending;
mod parts;
mod wake_lock;
mod web_worker;

use leptos::{mount, prelude::*};
use leptos_router::{
    components::{A, Route, Router, Routes},
    path,
};
use wasm_bindgen::JsCast;

use crate::{home::Home, ingest::Ingest, join::Join, lending::Lending, parts::page_title};

fn main() {
    console_error_panic_hook::set_once();
    let place = document().get_element_by_id("app").expect("index.html has an element #app");
    // Removes the text "Loading…", shown while this program was loading.
    place.set_text_content(None);
    mount::mount_to(place.unchecked_into(), App).forget();
}

#[component]
fn App() -> impl IntoView {
    // The work continues while the person visits another page.
    let lending = Lending::new();
    provide_context(lending);
    view! {
        <Router>
            <header class="top">
                <A href="/" attr:class="brand">
                    <BrandMark />
                    "ChaarFM"
                    <span class="brand-sub">"Worker"</span>
                </A>
                <nav aria-label="Pages">
                    <A href="/ingest">"Control"</A>
                    <A href="/join">
                        "Join"
                        <Show when=move || lending.is_active()>
                            <span
                                class="live-dot"
                                role="img"
                                aria-label="at work"
                                title="This tab is lending its machine"
                            ></span>
                        </Show>
                    </A>
                </nav>
            </header>
            <main>
                <Routes fallback=NotFound>
                    <Route path=path!("/") view=Home />
                    <Route path=path!("/ingest") view=Ingest />
                    <Route path=path!("/join/:code?") view=Join />
                </Routes>
            </main>
        </Router>
    }
}

/// Four bars of an equaliser, as in the favicon.
#[component]
fn BrandMark() -> impl IntoView {
    view! {
        <svg class="brand-mark" viewBox="0 0 32 32" aria-hidden="true">
            <rect width="32" height="32" rx="9" />
            <path d="M7.5 13.5v5M13.2 8v16M18.9 11.5v9M24.5 14.5v3" />
        </svg>
    }
}

#[component]
fn NotFound() -> impl IntoView {
    page_title(|| "Not found – ChaarFM Worker".into());
    view! {
        <section class="narrow">
            <h1>"There is nothing here"</h1>
            <p class="lead">"Perhaps you were looking for one of these:"</p>
            <p class="buttons">
                <A href="/ingest" attr:class="button">"Control page"</A>
                <A href="/join" attr:class="button quiet">"Join with a code"</A>
            </p>
        </section>
    }
}

// Like all tests of this crate, these run in a browser.
#[cfg(test)]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);
