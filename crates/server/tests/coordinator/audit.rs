//! Who is set aside stays so, and the audit record says who did what.

use chaarfm_api::AuditView;
use chaarfm_domain::{AuditEvent, Standing};
use chaarfm_protocol::{AcceptedAs, Outcome, ToServer, ToWorker};
use serde_json::{Value, json};

use super::{
    harness::{Coordinator, Folders, Worker, vector_for, within},
    invitations::{invite, refusal},
};

async fn record(coordinator: &Coordinator) -> Vec<AuditView> {
    coordinator.get("/api/audit").await.json().await.unwrap()
}

/// The record, as soon as it has an entry like that: entries are written in the background.
async fn record_with(coordinator: &Coordinator, is_it: impl Fn(&AuditView) -> bool) -> Vec<AuditView> {
    let looking = async {
        loop {
            let record = record(coordinator).await;
            if record.iter().any(&is_it) {
                return record;
            }
        }
    };
    within("an entry of the audit record", looking).await
}

fn is_about(event: AuditEvent) -> impl Fn(&AuditView) -> bool {
    move |view| view.entry.event == event
}

async fn store_one(worker: &mut Worker) -> String {
    let job = worker.job().await;
    let reply = worker.answer(&job.job, Outcome::Done(vector_for(&job))).await;
    assert!(matches!(reply, ToWorker::Accepted { outcome: AcceptedAs::Stored, .. }), "{reply:?}");
    job.track.file
}

#[tokio::test]
async fn an_owner_discards_a_worker_for_good_and_through_a_restart() {
    let folders = Folders::with(&["a.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut bad = coordinator.join_as(code, "bad").await;
    let file = store_one(&mut bad).await;
    let view = coordinator.watch(code, |view| view.counts.done == 1).await;
    let key = view.workers[0].key.clone();
    let discard = |key: &str| format!("/api/sessions/{code}/workers/{key}/discard");
    assert_eq!(coordinator.post(&discard("unknown"), &Value::Null).await.status(), 404);
    assert_eq!(coordinator.post(&discard(&key), &Value::Null).await.status(), 200);
    coordinator.watch(code, |view| view.counts.done == 0 && view.workers[0].standing == Standing::SetAside).await;
    record_with(&coordinator, is_about(AuditEvent::Retracted)).await;
    bad.vanish();
    coordinator.stop().await;

    let coordinator = Coordinator::start(&folders).await;
    let mut again = coordinator.join_as(code, "bad").await;
    coordinator.watch(code, |view| view.workers.iter().any(|worker| worker.standing == Standing::SetAside)).await;
    again.say(&ToServer::Ping).await;
    assert_eq!(again.hear_word().await, ToWorker::Pong, "and no job");
    // Nobody new joins from its address by its invitation for a while.
    let friends = invite(&coordinator, code, &json!({ "name": "friends" })).await;
    let mut honest = coordinator.join_by(code, friends.code, "honest").await;
    assert_eq!(store_one(&mut honest).await, file, "what it had delivered is done again");

    let record = record(&coordinator).await;
    let about = |event| record.iter().filter(move |view| view.entry.event == event).map(|view| &view.entry);
    let set_aside = about(AuditEvent::SetAside).next().unwrap();
    assert_eq!((&set_aside.actor, set_aside.detail.as_str()), (&key, "its owner has it discarded"));
    assert_eq!(about(AuditEvent::Retracted).next().unwrap().detail, "1 results are deleted and done again");
    assert_eq!(about(AuditEvent::Joined).count(), 2, "{record:?}");
    coordinator.stop().await;
}

#[tokio::test]
async fn the_record_says_who_came_and_what_was_commanded_without_any_code() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.current().await.code;
    let friends = invite(&coordinator, code, &json!({ "name": "friends" })).await;
    let _worker = coordinator.join_by(code, friends.code, "a").await;
    refusal(&coordinator, "AAA-AAA-AAA".parse().unwrap(), "b").await;
    coordinator.delete(&format!("/api/sessions/{code}/invitations/{}", friends.id)).await;
    let is_last = |view: &AuditView| view.entry.detail.starts_with("DELETE ");
    let record = record_with(&coordinator, is_last).await;
    let find = |event, words: &str| {
        let found = record.iter().find(|view| view.entry.event == event && view.entry.detail.contains(words));
        &found.unwrap_or_else(|| panic!("no {words}: {record:?}")).entry
    };
    let joined = find(AuditEvent::Joined, "friends");
    assert_eq!((joined.actor.len(), joined.address.as_str()), (32, "127.0.0.1"));
    assert!(joined.session.is_some());
    assert_eq!(find(AuditEvent::Refused, "this code lets nobody in").address, "127.0.0.1");
    let made = find(AuditEvent::Commanded, "POST /api/sessions/{code}/invitations");
    assert!(made.actor.starts_with("the token test ") && made.session == joined.session, "{made:?}");
    assert!(find(AuditEvent::Commanded, "DELETE").detail.ends_with(&format!(" id={}", friends.id)));
    find(AuditEvent::Commanded, "a new token for the role owner");

    let export = async |format| {
        let export = coordinator.get(&format!("/api/audit/export?format={format}")).await;
        assert_eq!(export.status(), 200);
        export.text().await.unwrap()
    };
    let (csv, jsonl) = (export("csv").await, export("jsonl").await);
    assert!(csv.starts_with("id,at_ms,event,session,actor,address,detail"), "{csv}");
    assert_eq!(csv.lines().count(), jsonl.lines().count() + 1);
    for secret in [code.to_string(), friends.code.to_string(), coordinator.token.clone()] {
        assert!(!jsonl.contains(&secret) && !csv.contains(&secret), "{secret}");
    }
    let page: Vec<AuditView> = coordinator.get("/api/audit?limit=2").await.json().await.unwrap();
    let next = format!("/api/audit?limit=2&before={}", page[1].id);
    let next: Vec<AuditView> = coordinator.get(&next).await.json().await.unwrap();
    assert!(page[1].id > next[0].id, "{page:?} {next:?}");
    coordinator.stop().await;
}
