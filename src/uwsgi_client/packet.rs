//! The packet of a request: the variables that nginx's `uwsgi_params` has.

use percent_encoding::percent_decode_str;

use super::{ClientError, Ends};
use crate::cli::uwsgi::Ask;

/// The most bytes of a packet's variables, by its format.
const MOST: usize = 65_535;

/// The packet for `ask`, whose body has `length` bytes.
///
/// # Errors
/// [`ClientError::TooLarge`].
pub(super) fn of(ask: &Ask, ends: &Ends, length: usize) -> Result<Vec<u8>, ClientError> {
    let mut variables = variables(ask, ends, length);
    for (name, value) in &ask.variables {
        variables.retain(|(known, _)| known != name);
        variables.push((name.clone(), value.clone().into_bytes()));
    }
    let mut block = Vec::new();
    for (name, value) in &variables {
        for part in [name.as_bytes(), value] {
            // What is too long is told below, all together.
            let size = u16::try_from(part.len()).unwrap_or(u16::MAX);
            block.extend_from_slice(&size.to_le_bytes());
            block.extend_from_slice(part);
        }
    }
    let size = u16::try_from(block.len()).map_err(|_| ClientError::TooLarge(block.len()))?;
    let [low, high] = size.to_le_bytes();
    let mut packet = vec![ask.modifier1, low, high, 0];
    packet.append(&mut block);
    debug_assert!(packet.len() <= MOST + 4);
    Ok(packet)
}

fn variables(ask: &Ask, ends: &Ends, length: usize) -> Vec<(String, Vec<u8>)> {
    let (path, query) = ask.target.split_once('?').unwrap_or((&ask.target, ""));
    let client = ends.client.map_or_else(
        || (String::from("unix:"), String::new()),
        |client| (client.ip().to_string(), client.port().to_string()),
    );
    let server = ends.server.map_or_else(
        || (String::from("localhost"), String::from("80")),
        |server| (server.ip().to_string(), server.port().to_string()),
    );
    let host = ends
        .server
        .map_or_else(|| String::from("localhost"), |server| server.to_string());
    let length = if ask.data.is_some() {
        length.to_string()
    } else {
        String::new()
    };
    let mut media_type = if ask.data.is_some() {
        "application/x-www-form-urlencoded"
    } else {
        ""
    };
    let mut fields = vec![
        (String::from("HTTP_HOST"), host),
        (
            String::from("HTTP_USER_AGENT"),
            String::from(concat!("rgun-async/", env!("CARGO_PKG_VERSION"))),
        ),
        (String::from("HTTP_ACCEPT"), String::from("*/*")),
    ];
    let usual = fields.len();
    for (name, value) in &ask.fields {
        let variable = name.to_ascii_uppercase().replace('-', "_");
        if variable == "CONTENT_TYPE" {
            media_type = value;
            continue;
        }
        let variable = format!("HTTP_{variable}");
        // A field that is given takes the place of a usual one; given twice, it is sent twice.
        match fields
            .iter_mut()
            .take(usual)
            .find(|(known, _)| *known == variable)
        {
            Some((_, usual)) => usual.clone_from(value),
            None => fields.push((variable, value.clone())),
        }
    }
    let mut variables: Vec<(String, Vec<u8>)> = [
        ("QUERY_STRING", query.as_bytes().to_vec()),
        ("REQUEST_METHOD", ask.method.clone().into_bytes()),
        ("CONTENT_TYPE", media_type.as_bytes().to_vec()),
        ("CONTENT_LENGTH", length.into_bytes()),
        ("REQUEST_URI", ask.target.clone().into_bytes()),
        ("PATH_INFO", percent_decode_str(path).collect()),
        ("SERVER_PROTOCOL", b"HTTP/1.1".to_vec()),
        ("REQUEST_SCHEME", b"http".to_vec()),
        ("REMOTE_ADDR", client.0.into_bytes()),
        ("REMOTE_PORT", client.1.into_bytes()),
        ("SERVER_PORT", server.1.into_bytes()),
        ("SERVER_NAME", server.0.into_bytes()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    variables.extend(
        fields
            .into_iter()
            .map(|(name, value)| (name, value.into_bytes())),
    );
    variables
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::uwsgi::Data;
    use crate::config::Address;

    fn ask() -> Ask {
        Ask {
            address: Address::Abstract(Vec::new()),
            method: String::from("POST"),
            target: String::from("/a%20b?c=d"),
            fields: Vec::new(),
            variables: Vec::new(),
            data: Some(Data::Input),
            modifier1: 0,
            timeout: Duration::ZERO,
        }
    }

    const ENDS: Ends = Ends {
        client: None,
        server: None,
    };

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    /// The variables of a packet, as text.
    fn read(packet: &[u8]) -> Vec<(String, String)> {
        let mut rest = &packet[4..];
        let mut part = || {
            let (size, after) = rest.split_first_chunk()?;
            let (part, after) = after.split_at(u16::from_le_bytes(*size).into());
            rest = after;
            Some(String::from_utf8(part.to_vec()).expect("text"))
        };
        let mut variables = Vec::new();
        while let Some(name) = part() {
            variables.push((name, part().expect("a value")));
        }
        variables
    }

    #[test]
    fn a_packet_has_the_variables_of_nginx() {
        let packet = of(&ask(), &ENDS, 5).expect("a packet");
        let size = u16::from_le_bytes([packet[1], packet[2]]);
        assert_eq!(usize::from(size) + 4, packet.len());
        assert_eq!((packet[0], packet[3]), (0, 0));
        let variables = read(&packet);
        for (name, value) in [
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", "/a%20b?c=d"),
            ("PATH_INFO", "/a b"),
            ("QUERY_STRING", "c=d"),
            ("CONTENT_LENGTH", "5"),
            ("HTTP_HOST", "localhost"),
        ] {
            assert!(variables.contains(&pair(name, value)), "{variables:?}");
        }
    }

    #[test]
    fn what_is_given_takes_the_place_of_what_is_usual() {
        let ask = Ask {
            fields: vec![
                pair("host", "x"),
                pair("content-type", "text/plain"),
                pair("x-a", "1"),
                pair("x-a", "2"),
            ],
            variables: vec![pair("PATH_INFO", "/z"), pair("MINE", "1")],
            modifier1: 5,
            ..ask()
        };
        let packet = of(&ask, &ENDS, 0).expect("a packet");
        assert_eq!(packet[0], 5);
        let variables = read(&packet);
        let values = |name: &str| -> Vec<_> {
            let found = variables.iter().filter(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str()).collect()
        };
        assert_eq!(values("HTTP_HOST"), ["x"]);
        assert_eq!(values("CONTENT_TYPE"), ["text/plain"]);
        assert_eq!(values("HTTP_X_A"), ["1", "2"]);
        assert_eq!(values("PATH_INFO"), ["/z"]);
        assert_eq!(values("MINE"), ["1"]);
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        let long = "x".repeat(60_000);
        let ask = Ask {
            fields: vec![pair("a", &long), pair("b", &long)],
            ..ask()
        };
        assert!(matches!(
            of(&ask, &ENDS, 0),
            Err(ClientError::TooLarge(120_000..))
        ));
    }
}
