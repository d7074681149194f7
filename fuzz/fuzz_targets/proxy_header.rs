//! The PROXY header's parser against arbitrary bytes: it does not panic, where the input is cut changes nothing, it takes no
//! byte behind the header, and without one it takes none at all.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgun_async::config::ProxyProtocol;
use rgun_async::proto::proxy::{Beginning, Header, Malformed};

/// The outcome for pieces of `size` bytes, as a connection that looks at them offers them.
fn feed(expected: ProxyProtocol, bytes: &[u8], size: usize) -> Result<(usize, Beginning), Malformed> {
    let mut header = Header::new(expected);
    let (mut taken, mut seen) = (0, size.min(bytes.len()));
    loop {
        let (more, beginning) = header.look(&bytes[taken..seen])?;
        assert!(more <= seen - taken);
        taken += more;
        if beginning != Beginning::Unknown || seen == bytes.len() {
            return Ok((taken, beginning));
        }
        seen = (seen + size).min(bytes.len());
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&seed, bytes)) = data.split_first() else { return };
    let size = usize::from(seed >> 2).max(1);
    let expected = match seed & 3 {
        0 => ProxyProtocol::Off,
        1 => ProxyProtocol::V1,
        2 => ProxyProtocol::V2,
        _ => ProxyProtocol::Auto,
    };
    let whole = feed(expected, bytes, usize::MAX);
    assert_eq!(whole, feed(expected, bytes, 1));
    assert_eq!(whole, feed(expected, bytes, size));
    match whole {
        Ok((taken, Beginning::Header(_))) => {
            // The header alone is the same one.
            assert_eq!(whole, feed(expected, &bytes[..taken], size));
            assert!(taken >= 15);
        }
        Ok((taken, Beginning::Bare)) => assert_eq!(taken, 0),
        Ok((_, Beginning::Unknown)) | Err(_) => {}
    }
});
