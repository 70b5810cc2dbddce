//! The audit record, and the workers that are set aside.

use std::collections::BTreeMap;

use chaarfm_domain::{AuditEntry, AuditEvent};

use super::*;

on_engines! {
    all {
        the_audit_record_is_read_from_its_end_and_pruned_from_its_beginning
        who_is_set_aside_stays_so
    }
    databases {}
}

fn entry(at_ms: u64, event: AuditEvent) -> AuditEntry {
    let (actor, address) = ("0f".repeat(32), "192.0.2.7".to_owned());
    AuditEntry { at_ms, event, session: Some(3), actor, address, detail: "=by \"friends\"\u{e9}".to_owned() }
}

async fn the_audit_record_is_read_from_its_end_and_pruned_from_its_beginning(fixture: Fixture) {
    let store = &fixture.store;
    assert_eq!(store.audit(None, 10).await.unwrap(), []);
    let entries: Vec<_> = (0..6).map(|second| entry(second * 1000, AuditEvent::Joined)).collect();
    store.add_audit(&entries[..4]).await.unwrap();
    let stranger = AuditEntry { session: None, actor: String::new(), ..entries[4].clone() };
    store.add_audit(&[stranger.clone(), entries[5].clone()]).await.unwrap();
    let newest = store.audit(None, 3).await.unwrap();
    assert_eq!(newest.iter().map(|(_, entry)| entry).collect::<Vec<_>>(), [&entries[5], &stranger, &entries[3]]);
    assert!(newest.windows(2).all(|pair| pair[0].0 > pair[1].0));
    let older = store.audit(Some(newest[2].0), 10).await.unwrap();
    assert_eq!(older.iter().map(|(_, entry)| entry.at_ms).collect::<Vec<_>>(), [2000, 1000, 0]);

    let left = async || store.audit(None, 10).await.unwrap().iter().map(|(_, entry)| entry.at_ms).collect::<Vec<_>>();
    store.prune_audit(Timestamp(2000), 100).await.unwrap();
    assert_eq!(left().await, [5000, 4000, 3000, 2000]);
    store.prune_audit(Timestamp(0), 2).await.unwrap();
    assert_eq!(left().await, [5000, 4000]);
    store.add_audit(&entries[..1]).await.unwrap();
    assert!(store.audit(None, 1).await.unwrap()[0].0 > newest[0].0, "a number is never another's");
}

async fn who_is_set_aside_stays_so(fixture: Fixture) {
    let store = &fixture.store;
    let [first, second] = [2, 3].map(new_session);
    let [first, second] = [store.create_session(first, 9).await, store.create_session(second, 9).await];
    let [first, second] = [first, second].map(|session| session.unwrap().unwrap());
    for (session, keys) in [(&first, ["liar", "failing", "honest"]), (&second, ["other", "spare", "more"])] {
        let invitation = store.invitations(session.id).await.unwrap().remove(0).id;
        for key in keys {
            assert!(store.use_invitation(invitation, key, "", T0).await.unwrap());
        }
    }
    for (key, has_lied) in [("failing", false), ("liar", false), ("liar", true), ("liar", false), ("other", false)] {
        store.set_key_aside(key, has_lied).await.unwrap();
    }
    store.set_key_aside("nobody", true).await.unwrap();
    let expected = BTreeMap::from([("failing".to_owned(), false), ("liar".to_owned(), true)]);
    assert_eq!(store.keys_set_aside(first.id).await.unwrap(), expected);
    let standing = async |key| store.invited(None, key, LATER).await.unwrap().unwrap().set_aside;
    assert_eq!((standing("liar").await, standing("failing").await), (Some(true), Some(false)));
    assert_eq!((standing("honest").await, standing("other").await), (None, Some(false)));
    let new = store.invited(Some(&first.code), "new", T0).await.unwrap().unwrap();
    assert_eq!((new.is_known, new.set_aside), (false, None));
}
