//! How a coordinator stops, and what happens to work in transit.

use std::{fs::File, time::Instant};

use chaarfm_protocol::{ToServer, ToWorker, worker_socket_path};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Coordinator, Folders, within};

#[tokio::test]
async fn a_result_on_its_way_counts_and_nothing_more_is_handed_out() {
    let folders = Folders::with(&["1.wav", "2.wav", "3.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut quick = coordinator.join(code).await;
    let finished = quick.job().await;
    let mut slow = coordinator.join_as(code, "slow").await;
    let kept = slow.job().await;
    let stopping = tokio::spawn(coordinator.stop());
    assert_eq!(quick.hear_word().await, ToWorker::Goodbye);
    assert!(matches!(quick.finish(&finished).await, ToWorker::Accepted { .. }));
    assert!(matches!(quick.frame().await, Message::Close(Some(_))), "it has room, and gets nothing");
    assert_eq!(slow.hear_word().await, ToWorker::Goodbye);
    drop((quick, slow));
    stopping.await.unwrap();

    let coordinator = Coordinator::start(&folders).await;
    let counts = coordinator.current().await.counts;
    assert_eq!((counts.done, counts.leased, counts.queued), (1, 1, 1), "who did not finish keeps the lease");
    let mut slow = coordinator.join_holding(code, "slow", 1, vec![kept.job.clone()]).await;
    assert!(matches!(slow.finish(&kept).await, ToWorker::Accepted { .. }));
    coordinator.stop().await;
}

#[tokio::test]
async fn who_says_bye_to_the_goodbye_hands_back() {
    let folders = Folders::with(&["1.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    worker.job().await;
    let stopping = tokio::spawn(coordinator.stop());
    assert_eq!(worker.hear_word().await, ToWorker::Goodbye);
    worker.say(&ToServer::Bye).await;
    assert!(matches!(worker.frame().await, Message::Close(Some(_))));
    drop(worker);
    stopping.await.unwrap();
    let coordinator = Coordinator::start(&folders).await;
    assert_eq!(coordinator.current().await.counts.queued, 1);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_file_on_its_way_arrives() {
    const BYTES: u64 = 64 << 20;
    let folders = Folders::with(&["a.wav"]);
    File::options().write(true).open(folders.file("a.wav")).unwrap().set_len(BYTES).unwrap();
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut worker = coordinator.join(code).await;
    let job = worker.job().await;
    let mut file = coordinator.audio(&job).await;
    let mut received = file.chunk().await.unwrap().unwrap().len() as u64;
    let stopping = tokio::spawn(coordinator.stop());
    assert_eq!(worker.hear_word().await, ToWorker::Goodbye);
    drop(worker);
    while let Some(piece) = within("the rest of the file", file.chunk()).await.unwrap() {
        received += piece.len() as u64;
    }
    assert_eq!(received, BYTES);
    stopping.await.unwrap();
}

#[tokio::test]
async fn nobody_who_keeps_silent_delays_the_end() {
    let folders = Folders::with(&["1.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let mut silent = coordinator.connect(&worker_socket_path(&code)).await;
    let mut busy = coordinator.join(code).await;
    busy.job().await;
    let began = Instant::now();
    let stopping = tokio::spawn(coordinator.stop());
    assert_eq!(silent.hear().await, ToWorker::Goodbye);
    assert!(matches!(silent.frame().await, Message::Close(Some(_))));
    assert_eq!(busy.hear_word().await, ToWorker::Goodbye);
    stopping.await.unwrap();
    assert!(began.elapsed().as_secs() < 8, "{:?}", began.elapsed());
}
