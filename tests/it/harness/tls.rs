//! Certificates, and OpenSSL as a client (`tests/peers/tls.py`).

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};

use super::{patience, root, venv};

/// An authority, and a directory with what it has signed.
pub(crate) struct Pki {
    directory: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// A new one, whose files go there.
    pub(crate) fn new(directory: &Path) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = directory.file_name().expect("a name").to_string_lossy();
        let name = format!("authority of {name}");
        parameters.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(parameters, key).expect("a certificate");
        fs::create_dir_all(directory).expect("a directory");
        let pki = Self {
            directory: directory.to_owned(),
            authority,
        };
        fs::write(pki.path("ca.pem"), pki.authority.pem()).expect("a file");
        pki
    }

    /// A file of it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The same as a word of a command line.
    pub(crate) fn word(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A certificate for `names`, the first of which is its common name too, in `FILE.pem` with its chain, and its key in
    /// `FILE.key`; tells its serial number as OpenSSL writes it.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> String {
        let (chain, key, serial) = self.sign(names);
        fs::write(self.path(&format!("{file}.pem")), chain).expect("a file");
        fs::write(self.path(&format!("{file}.key")), key).expect("a file");
        serial
    }

    /// The same with a certificate whose time is over.
    pub(crate) fn issue_expired(&self, file: &str, names: &[&str]) -> String {
        let over = |parameters: &mut CertificateParams| {
            parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
        };
        let (chain, key, serial) = self.sign_with(names, over);
        fs::write(self.path(&format!("{file}.pem")), chain).expect("a file");
        fs::write(self.path(&format!("{file}.key")), key).expect("a file");
        serial
    }

    /// A chain and a key, and the certificate's serial number.
    pub(crate) fn sign(&self, names: &[&str]) -> (String, String, String) {
        self.sign_with(names, |_| {})
    }

    fn sign_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String, String) {
        let all: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(all).expect("names");
        let name = &mut parameters.distinguished_name;
        name.push(DnType::CommonName, names[0]);
        name.push(DnType::OrganizationName, "Tests");
        let serial = 0x1000_0000 + u64::from(rand());
        parameters.serial_number = Some(serial.into());
        change(&mut parameters);
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.authority).expect("signed");
        let chain = format!("{}{}", certificate.pem(), self.authority.pem());
        (chain, key.serialize_pem(), format!("{serial:X}"))
    }

    /// An HTTPS bind with these pairs of files, and more options.
    pub(crate) fn bind(&self, files: &[&str], more: &str) -> String {
        let pairs: Vec<_> = files
            .iter()
            .map(|file| {
                let (cert, key) = (format!("{file}.pem"), format!("{file}.key"));
                format!("cert={}&key={}", self.word(&cert), self.word(&key))
            })
            .collect();
        format!("https://127.0.0.1:0?{}{more}", pairs.join("&"))
    }
}

/// No two certificates are the same.
fn rand() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    u32::try_from(RandomState::new().hash_one(0) >> 33).expect("31 bits")
}

/// A process of Python that speaks TLS by OpenSSL.
pub(crate) struct Peer {
    child: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    ca: String,
    port: u16,
}

impl Peer {
    /// One that connects to this port, and trusts the authority of `pki`.
    pub(crate) fn new(pki: &Pki, port: u16) -> Self {
        let mut child = Command::new(venv().join("bin/python3"))
            .arg(root().join("tests/peers/tls.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the virtual environment has a Python");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = child.stdout.take().expect("it is piped");
        Self {
            child,
            pipes: RefCell::new((stdin, BufReader::new(stdout))),
            ca: pki.word("ca.pem"),
            port,
        }
    }

    /// Tells it something, and its answer.
    pub(crate) fn ask(&self, mut told: Value) -> Value {
        let filled = told.as_object_mut().expect("an object");
        filled.entry("ca").or_insert_with(|| json!(self.ca));
        filled.entry("port").or_insert_with(|| json!(self.port));
        filled.insert("timeout".to_owned(), json!(patience().as_secs_f64()));
        let (stdin, stdout) = &mut *self.pipes.borrow_mut();
        writeln!(stdin, "{told}").expect("it reads");
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it writes");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{told}: {line:?}"))
    }

    /// The same, where it must go well.
    #[track_caller]
    pub(crate) fn tell(&self, told: Value) -> Value {
        let shown = told.to_string();
        let answer = self.ask(told);
        assert!(answer.get("error").is_none(), "{shown}: {answer}");
        answer
    }

    /// Connects as number `id`, asking for `name`; what was agreed upon.
    #[track_caller]
    pub(crate) fn connect(&self, id: u32, name: &str) -> Value {
        self.tell(json!({"do": "connect", "id": id, "name": name}))
    }

    /// Asks for `path` on connection `id`.
    #[track_caller]
    pub(crate) fn get(&self, id: u32, path: &str) -> Value {
        let answer = self.tell(json!({"do": "request", "id": id, "path": path}));
        assert_eq!(answer["status"], 200, "{answer}");
        answer
    }

    /// The same, where the answer is JSON.
    #[track_caller]
    pub(crate) fn facts(&self, id: u32, path: &str) -> Value {
        let answer = self.get(id, path);
        let body = answer["body"].as_str().expect("a body");
        serde_json::from_str(body).unwrap_or_else(|_| panic!("{body:?} is no JSON"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
