//! Notices and views that coordinators exchange.

use super::*;

on_engines! {
    all {
        what_a_coordinator_shows_is_for_the_others
        each_worker_has_a_number_of_its_own
    }
    databases {}
}

async fn what_a_coordinator_shows_is_for_the_others(fixture: Fixture) {
    let (store, id) = (&fixture.store, fixture.session.id);
    store.publish_presence(&[(id, "{}".into())], LATER).await.unwrap();
    assert_eq!(store.presence_of_others(id, T0).await.unwrap(), [""; 0]);
    store.sweep_presence(T0).await.unwrap();
    store.withdraw_presence(&[id]).await.unwrap();
    store.withdraw_presence(&[]).await.unwrap();
}

async fn each_worker_has_a_number_of_its_own(fixture: Fixture) {
    let clone = fixture.store.clone();
    assert_eq!((fixture.store.next_worker().await.unwrap(), clone.next_worker().await.unwrap()), (1, 2));
}
