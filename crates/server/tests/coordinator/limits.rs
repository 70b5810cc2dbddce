//! What strangers may take of the coordinator, tried on real sockets.

use crate::harness::{Coordinator, Folders, within};

#[tokio::test]
async fn a_worker_that_floods_and_never_reads_is_cut_off() {
    let folders = Folders::with(&["1.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.scanned().await;
    let flood = coordinator.join(code).await.flood();
    within("the end of the flood", flood).await;
    coordinator.watch(code, |view| view.worker_count == 0).await;
    assert_eq!(coordinator.join(code).await.job().await.track.file, "1.wav", "others go on");
    coordinator.stop().await;
}
