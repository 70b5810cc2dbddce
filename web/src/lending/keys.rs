//! The keys by which the coordinator recognises this browser: one for each invitation, shared by all Web Workers of all
//! its tabs.

use chaarfm_protocol::{PairingCode, WorkerKey};
use leptos::prelude::window;

/// Prefix of a key's name in the browser's storage.
const PREFIX: &str = "chaarfm-key";

/// The key for an invitation; a new one if there is none. A browser without storage gets a new one each time.
pub(super) fn key(code: PairingCode) -> WorkerKey {
    let name = format!("{PREFIX} {code}");
    let storage = window().local_storage().ok().flatten();
    let kept = storage.as_ref().and_then(|storage| storage.get_item(&name).ok()?);
    if let Some(key) = kept.and_then(|text| text.parse().ok()) {
        return key;
    }
    let key = WorkerKey::from_random(random());
    if let Some(storage) = storage {
        _ = storage.set_item(&name, &key.shown());
    }
    key
}

/// 128 unguessable bits.
fn random() -> u128 {
    let mut bytes = [0; 16];
    let crypto = window().crypto().expect("every browser that runs this has it");
    crypto.get_random_values_with_u8_array(&mut bytes).expect("16 bytes are always to be had");
    u128::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn each_invitation_has_a_key_that_stays() {
        let [one, other] = ["K7Q-M4X-WDP", "AAA-AAA-AAA"].map(|code| code.parse().unwrap());
        let first = key(one);
        assert_eq!(key(one), first);
        assert_ne!(key(other), first);
    }
}
