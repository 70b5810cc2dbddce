//! The start page.

use leptos::prelude::*;
use leptos_router::components::A;

use crate::parts::page_title;

/// Heights of the ornament's bars in percent: a rising and falling tune.
const TUNE: [u8; 32] = [
    14, 22, 18, 34, 48, 30, 56, 72, 44, 62, 88, 66, 94, 70, 52, 80, 100, 76, 58, 84, 64, 46, 70, 50, 34, 54, 38, 24,
    36, 20, 26, 12,
];

#[component]
pub(crate) fn Home() -> impl IntoView {
    page_title(|| "ChaarFM Worker".into());
    view! {
        <section class="hero">
            <div class="tune" aria-hidden="true">
                {TUNE.map(|height| view! { <span style:height=format!("{height}%")></span> }).into_iter().collect_view()}
            </div>
            <h1>"Many machines, one pair of ears"</h1>
            <p class="lead">
                "ChaarFM Worker listens to a music library and gives every track a vector of 200 numbers that says how it \
                 sounds. Lend it any machine that is at hand: this one, a friend’s, a phone."
            </p>
        </section>
        <section class="doors">
            <A href="/ingest" attr:class="door">
                <h2>"Run a library through"</h2>
                <p>"Choose a folder of music, invite workers with a code, and watch the vectors come in."</p>
                <span class="door-go" aria-hidden="true">"Open the control page →"</span>
            </A>
            <A href="/join" attr:class="door">
                <h2>"Lend this machine"</h2>
                <p>"Someone gave you a code? This browser tab can do the listening. There is nothing to install."</p>
                <span class="door-go" aria-hidden="true">"Enter the code →"</span>
            </A>
        </section>
        <p class="fine-print">
            "For programs: " <a href="/api/openapi.json" rel="external">"the JSON interface"</a> "."
        </p>
    }
}
