//! The identity of workers.

use chaarfm_protocol::WorkerKey;

/// Characters of a hash: 128 bits, the size of a key.
const HASH_CHARS: usize = 32;

/// The stored form of a worker's key, which is also the worker's internal name: the first half of its BLAKE3 hash, in
/// lower-case hexadecimal. A key with this many random bits needs no salt and no slow hash.
pub(crate) fn hash_of(key: &WorkerKey) -> String {
    let mut hash = blake3::hash(key.shown().as_bytes()).to_hex().to_string();
    hash.truncate(HASH_CHARS);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_tells_keys_apart_and_does_not_tell_the_key() {
        let [one, other] = [1, 2].map(WorkerKey::from_random);
        assert_eq!(hash_of(&one).len(), 32);
        assert_ne!(hash_of(&one), hash_of(&other));
        assert_ne!(hash_of(&one), one.shown());
    }
}
