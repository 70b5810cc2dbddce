//! End-to-end tests: the real executables and a real browser, on real audio. See `tests/`; `fixtures/` is the audio.
