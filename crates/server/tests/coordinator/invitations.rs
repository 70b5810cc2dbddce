//! Invitations and workers' keys.

use chaarfm_api::{InvitationView, SessionView};
use chaarfm_domain::Standing;
use chaarfm_protocol::{Failure, FailureKind, Outcome, PairingCode, RefusalReason, ToWorker, worker_socket_path};
use serde_json::{Value, json};

use crate::harness::{Coordinator, Folders, hello, hello_of};

/// Creates an invitation.
pub(crate) async fn invite(coordinator: &Coordinator, session: PairingCode, wish: &Value) -> InvitationView {
    let answer = coordinator.post(&format!("/api/sessions/{session}/invitations"), wish).await;
    assert_eq!(answer.status(), 201);
    answer.json().await.unwrap()
}

async fn list(coordinator: &Coordinator, session: PairingCode) -> Vec<InvitationView> {
    coordinator.get(&format!("/api/sessions/{session}/invitations")).await.json().await.unwrap()
}

/// The reason why this code does not admit a worker of this name.
pub(crate) async fn refusal(coordinator: &Coordinator, code: PairingCode, name: &str) -> (RefusalReason, String) {
    let mut worker = coordinator.connect(&worker_socket_path(&code)).await;
    worker.say(&hello_of(name)).await;
    match worker.hear().await {
        ToWorker::Refused { reason, message, .. } => (reason, message),
        other => panic!("not refused but {other:?}"),
    }
}

#[tokio::test]
async fn several_invitations_lead_to_one_session_each_with_its_bounds() {
    let folders = Folders::with(&["1.wav", "2.wav", "3.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let session = coordinator.scanned().await;
    let lab = invite(&coordinator, session, &json!({ "name": " lab ", "max_workers": 1, "max_uses": 2 })).await;
    assert_eq!((lab.name.as_str(), lab.is_open, lab.uses), ("lab", true, 0));
    assert_eq!(lab.expires_at_ms - lab.created_at_ms, 7 * 24 * 60 * 60 * 1000);
    let one = coordinator.join_by(session, lab.code, "one").await;
    let _friend = coordinator.join_as(session, "friend").await;
    let (reason, message) = refusal(&coordinator, lab.code, "two").await;
    assert_eq!(reason, RefusalReason::Full, "{message}");
    let seen =
        coordinator.watch(session, |view| view.invitations.iter().all(|invitation| invitation.workers == 1)).await;
    let uses: Vec<_> = seen.invitations.iter().map(|some| (some.name.as_str(), some.uses)).collect();
    assert_eq!(uses, [("first", 1), ("lab", 1)]);

    one.vanish();
    coordinator.watch(session, |view| view.invitations[1].workers == 0).await;
    let two = coordinator.join_by(session, lab.code, "two").await;
    two.vanish();
    coordinator.watch(session, |view| view.invitations[1].workers == 0).await;
    // It is used up for new workers, but not for known ones.
    let (used_up, _) = refusal(&coordinator, lab.code, "three").await;
    assert_eq!(used_up, RefusalReason::UnknownCode);
    coordinator.join_by(session, lab.code, "one").await;

    for wish in [
        json!({ "name": "" }),
        json!({ "name": "x".repeat(65) }),
        json!({ "name": "x", "days": 0 }),
        json!({ "name": "x", "days": 366 }),
        json!({ "name": "x", "max_uses": 0 }),
    ] {
        let answer = coordinator.post(&format!("/api/sessions/{session}/invitations"), &wish).await;
        assert_eq!(answer.status(), 400, "{wish}");
    }
    // A limit with an unknown name would be ignored.
    let mistyped = json!({ "name": "x", "max_worker": 1 });
    let answer = coordinator.post(&format!("/api/sessions/{session}/invitations"), &mistyped).await;
    assert_eq!(answer.status(), 422);
    let reason = answer.text().await.unwrap();
    assert!(reason.contains("max_worker"), "{reason}");
    coordinator.stop().await;
}

#[tokio::test]
async fn one_key_on_two_connections_is_one_worker() {
    let folders = Folders::with(&["1.wav", "2.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let session = coordinator.scanned().await;
    let lab = invite(&coordinator, session, &json!({ "name": "lab", "max_workers": 1, "max_uses": 1 })).await;
    let mut tabs = [
        coordinator.join_by(session, lab.code, "browser").await,
        coordinator.join_by(session, lab.code, "browser").await,
    ];
    for tab in &mut tabs {
        let job = tab.job().await;
        tab.finish(&job).await;
    }
    let view = coordinator.watch(session, |view| view.counts.done == 2).await;
    assert_eq!((view.invitations[1].uses, view.worker_count), (1, 2));
    coordinator.stop().await;
}

#[tokio::test]
async fn the_workers_of_an_invitation_get_as_much_audio_as_it_may_have() {
    let folders = Folders::with(&["1.wav", "2.wav", "3.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let session = coordinator.scanned().await;
    let little = invite(&coordinator, session, &json!({ "name": "little", "max_bytes": 1 })).await;
    let mut worker = coordinator.join_by(session, little.code, "little").await;
    let job = worker.job().await;
    worker.finish(&job).await;
    let view = coordinator.watch(session, |view| view.counts.done == 1).await;
    assert_eq!(view.invitations[1].bytes, job.audio.bytes);
    // The remaining tracks are for other workers.
    let mut friend = coordinator.join_as(session, "friend").await;
    for _ in 0..2 {
        let job = friend.job().await;
        friend.finish(&job).await;
    }
    coordinator.watch(session, |view| view.counts.done == 3).await;
    coordinator.stop().await;
}

#[tokio::test]
async fn a_revoked_invitation_sends_its_workers_away_and_the_session_goes_on() {
    let folders = Folders::with(&["1.wav", "2.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let session = coordinator.scanned().await;
    let lab = invite(&coordinator, session, &json!({ "name": "lab" })).await;
    let mut guest = coordinator.join_by(session, lab.code, "guest").await;
    guest.job().await;
    let mut friend = coordinator.join_as(session, "friend").await;
    friend.job().await;

    let path = format!("/api/sessions/{session}/invitations/{}", lab.id);
    let view: SessionView = coordinator.delete(&path).await.json().await.unwrap();
    assert_eq!((view.invitations[1].is_revoked, view.invitations[1].is_open), (true, false));
    assert!(matches!(guest.hear_word().await, ToWorker::Refused { reason: RefusalReason::UnknownCode, .. }));
    assert_eq!(coordinator.delete(&path).await.status(), 404, "once");
    coordinator.watch(session, |view| view.worker_count == 1 && view.counts.queued == 1).await;
    // A known worker, a new one and one with an invented code get the same answer.
    let nobodys = PairingCode::from_random(12345);
    let said = [
        refusal(&coordinator, lab.code, "guest").await,
        refusal(&coordinator, lab.code, "another").await,
        refusal(&coordinator, nobodys, "another").await,
    ];
    assert_eq!(said[0], said[1]);
    assert_eq!(said[0], said[2]);
    coordinator.stop().await;
}

#[tokio::test]
async fn who_has_joined_stays_in_with_another_code_and_after_a_restart() {
    let folders = Folders::with(&["1.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let session = coordinator.scanned().await;
    let mut worker = coordinator.join_as(session, "friend").await;
    let job = worker.job().await;
    let first = list(&coordinator, session).await.remove(0);
    let path = format!("/api/sessions/{session}/invitations/{}/rotate", first.id);
    let view: SessionView = coordinator.post(&path, &Value::Null).await.json().await.unwrap();
    assert_eq!(view.code, session, "the session is called as before");
    let rotated = &view.invitations[0];
    assert_ne!(rotated.code, first.code);
    worker.start_on(&job).await;
    coordinator.stop().await;

    let coordinator = Coordinator::start(&folders).await;
    assert_eq!(refusal(&coordinator, first.code, "stranger").await.0, RefusalReason::UnknownCode);
    let _friend = coordinator.join_by(session, first.code, "friend").await;
    let _new = coordinator.join_by(session, rotated.code, "new").await;
    assert_eq!(list(&coordinator, session).await[0].uses, 2);
    coordinator.stop().await;
}

#[tokio::test]
async fn whoever_was_set_aside_stays_so_under_another_name_and_does_not_come_again_with_another_key() {
    let files: Vec<String> = (0..20).map(|number| format!("{number}.wav")).collect();
    let folders = Folders::with(&files.iter().map(String::as_str).collect::<Vec<_>>());
    let coordinator = Coordinator::start(&folders).await;
    let session = coordinator.scanned().await;
    let lab = invite(&coordinator, session, &json!({ "name": "lab" })).await;
    let mut honest = coordinator.join_as(session, "honest").await;
    let held = honest.job().await;
    let mut bad = coordinator.join_by(session, lab.code, "bad").await;
    let broken = || Outcome::Failed(Failure { kind: FailureKind::Permanent, message: "broken".into() });
    for _ in 0..5 {
        let job = bad.job().await;
        bad.answer(&job.job, broken()).await;
    }
    honest.finish(&held).await;
    let work = async {
        loop {
            let job = honest.job().await;
            honest.finish(&job).await;
        }
    };
    let is_set_aside = |view: &SessionView| view.workers.iter().any(|worker| worker.standing == Standing::SetAside);
    tokio::select! {
        view = coordinator.watch(session, is_set_aside) => drop(view),
        () = work => {}
    }
    // Another agent on another connection: only the key counts.
    bad.vanish();
    let _again = coordinator.join_by(session, lab.code, "bad").await;
    coordinator.watch(session, is_set_aside).await;
    let (reason, message) = refusal(&coordinator, lab.code, "innocent").await;
    assert_eq!(reason, RefusalReason::Full, "{message}");
    let mut other = coordinator.connect(&worker_socket_path(&session)).await;
    other.say(&hello(1)).await;
    assert!(matches!(other.hear().await, ToWorker::Welcome { .. }), "another invitation is another matter");
    coordinator.stop().await;
}
