//! The browser worker for the GPU: the same program with another device, which most tabs need not download.

fn main() {
    chaarfm_worker_web::start();
}
