//! The browser worker for the CPU. It shares a package with the pages so that their common dependencies are compiled once.

fn main() {
    chaarfm_worker_web::start();
}
