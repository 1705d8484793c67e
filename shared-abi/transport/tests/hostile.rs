//! Arbitrary bytes from a peer: errors are fine, panics and endless loops are not. The same bodies are fuzz targets.

use atoll_transport::hostile;
use proptest::prelude::*;

/// Bytes that are often almost right: small numbers, slot types, owner bits, all ones.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => Just(0u8), 2 => 0u8..32, 1 => Just(0xff), 1 => Just(0x90), 1 => any::<u8>()];
    prop::collection::vec(byte, 0..6000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn slots(bytes in bytes()) {
        hostile::slots(&bytes);
    }

    #[test]
    fn sessions(bytes in bytes()) {
        hostile::session(&bytes);
    }

    #[test]
    fn servers(bytes in bytes()) {
        hostile::server(&bytes);
    }

    #[test]
    fn clients(bytes in bytes()) {
        hostile::client(&bytes);
    }

    #[test]
    fn queues(bytes in bytes()) {
        hostile::queues(&bytes);
    }
}
