use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE};
use http_body_util::BodyExt;
use tempfile::TempDir;

use super::*;

fn mount(prefix: &str) -> (TempDir, Rc<Mount>) {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("digits.txt"), "0123456789").unwrap();
    std::fs::write(root.path().join("digits.txt.gz"), "compressed").unwrap();
    std::fs::create_dir(root.path().join("empty")).unwrap();
    std::fs::create_dir(root.path().join("site")).unwrap();
    std::fs::write(root.path().join("site/index.html"), "home").unwrap();
    let mount = Mount::new(
        prefix,
        root.path().to_owned(),
        Links::Inside,
        Hidden::Missing,
    );
    (root, Rc::new(mount))
}

async fn ask(mount: &Rc<Mount>, request: request::Builder) -> (Response<()>, String) {
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let response = Rc::clone(mount).serve(parts).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    (Response::from_parts(parts, ()), body)
}

#[test]
fn a_prefix_ends_at_a_slash() {
    let (_root, mount) = mount("/assets/");
    for (path, has) in [
        ("/assets", true),
        ("/assets/", true),
        ("/assets/a", true),
        ("/assetsa", false),
        ("/", false),
        ("*", false),
    ] {
        assert_eq!(mount.has(path), has, "{path}");
    }
}

#[tokio::test]
async fn a_range_is_of_the_file_that_its_condition_names() {
    let (_root, mount) = mount("");
    let get = || Request::get("/digits.txt").header(RANGE, "bytes=2-4");
    let (response, body) = ask(&mount, get()).await;
    assert_eq!((response.status().as_u16(), &*body), (206, "234"));
    assert_eq!(response.headers()[CONTENT_RANGE], "bytes 2-4/10");
    for name in [ETAG, LAST_MODIFIED] {
        let validator = response.headers()[name].clone();
        let (same, body) = ask(&mount, get().header(IF_RANGE, validator)).await;
        assert_eq!((same.status().as_u16(), &*body), (206, "234"));
    }
    for other in ["\"other\"", "W/\"weak\"", "Thu, 01 Jan 1970 00:00:00 GMT"] {
        let (whole, body) = ask(&mount, get().header(IF_RANGE, other)).await;
        assert_eq!((whole.status().as_u16(), &*body), (200, "0123456789"));
    }
}

#[tokio::test]
async fn ranges_that_are_none_are_left_out() {
    let (_root, mount) = mount("");
    let get = |range| Request::get("/digits.txt").header(RANGE, range);
    for range in ["lines=1-2", "bytes=0-1,4-5"] {
        let (response, body) = ask(&mount, get(range)).await;
        assert_eq!((response.status().as_u16(), &*body), (200, "0123456789"));
    }
    let (response, body) = ask(&mount, get("bytes=10-")).await;
    assert_eq!((response.status().as_u16(), &*body), (416, ""));
    assert_eq!(response.headers()[CONTENT_RANGE], "bytes */10");
    let head = Request::head("/digits.txt").header(RANGE, "bytes=2-4");
    let (response, body) = ask(&mount, head).await;
    assert_eq!((response.status().as_u16(), &*body), (200, ""));
    assert_eq!(response.headers()[CONTENT_LENGTH], "10");
}

#[tokio::test]
async fn a_precompressed_file_is_sent_to_who_takes_it() {
    let (_root, mount) = mount("");
    let get = Request::get("/digits.txt").header(ACCEPT_ENCODING, "br, gzip");
    let (response, body) = ask(&mount, get).await;
    assert_eq!(body, "compressed");
    assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
    let (response, body) = ask(&mount, Request::get("/digits.txt")).await;
    assert_eq!(body, "0123456789");
    assert!(!response.headers().contains_key(CONTENT_ENCODING));
}

#[tokio::test]
async fn a_redirect_stays_under_its_prefix_and_on_its_host() {
    for prefix in ["", "/assets"] {
        let (_root, mount) = mount(prefix);
        let get = |path: &str| Request::get(format!("{prefix}{path}"));
        let (response, _) = ask(&mount, get("/site?a=b")).await;
        assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(response.headers()[LOCATION], format!("{prefix}/site/?a=b"));
        let (response, _) = ask(&mount, get("//site")).await;
        assert_eq!(response.headers()[LOCATION], format!("{prefix}/site/"));
        let (response, body) = ask(&mount, get("/site/")).await;
        assert_eq!((response.status(), &*body), (StatusCode::OK, "home"));
        let (response, _) = ask(&mount, get("/empty/")).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
    let (_root, mount) = mount("/assets");
    let (response, _) = ask(&mount, Request::get("/assets?a")).await;
    assert_eq!(response.headers()[LOCATION], "/assets/?a");
}

fn known(mount: &Mount, in_turn: bool) -> Option<Response<FileBody>> {
    let (parts, ()) = Request::get("/digits.txt").body(()).unwrap().into_parts();
    mount.answer(&parts, in_turn)
}

async fn text(answer: Option<Response<FileBody>>) -> Option<String> {
    let body = answer?.into_body().collect().await.unwrap().to_bytes();
    Some(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn what_the_library_has_said_holds_until_the_file_is_another() {
    let (root, mount) = mount("");
    assert!(known(&mount, false).is_none());
    ask(&mount, Request::get("/digits.txt")).await;
    assert_eq!(text(known(&mount, false)).await.unwrap(), "0123456789");
    std::fs::write(root.path().join("digits.txt"), "abc").unwrap();
    assert!(known(&mount, false).is_none());
}

#[tokio::test]
async fn requests_of_one_turn_share_what_was_opened_and_the_next_turn_looks_again() {
    let (root, mount) = mount("");
    ask(&mount, Request::get("/digits.txt")).await;
    let first = known(&mount, true).unwrap();
    std::fs::write(root.path().join("new"), "abc").unwrap();
    std::fs::rename(root.path().join("new"), root.path().join("digits.txt")).unwrap();
    let second = known(&mount, true).unwrap();
    let file = |answer: &Response<FileBody>| Arc::clone(answer.body().range().unwrap().file());
    assert!(Arc::ptr_eq(&file(&first), &file(&second)));
    assert_eq!(text(Some(second)).await.unwrap(), "0123456789");
    mount.known.forget_found();
    assert!(known(&mount, true).is_none(), "it is another file");
    assert_eq!(
        Arc::strong_count(&file(&first)),
        2,
        "nobody else holds it open"
    );
}

/// The directory is looked at between two looks at the file, and it is the file that was chosen.
#[tokio::test]
async fn a_directory_with_the_name_of_a_compressed_file_is_not_taken_for_the_answer() {
    let (root, mount) = mount("");
    std::fs::write(root.path().join("plain.txt"), "plain").unwrap();
    std::fs::create_dir(root.path().join("plain.txt.gz")).unwrap();
    let get = || Request::get("/plain.txt").header(ACCEPT_ENCODING, "gzip");
    assert_eq!(ask(&mount, get()).await.1, "plain");
    let (parts, ()) = get().body(()).unwrap().into_parts();
    let again = mount.answer(&parts, false);
    assert_eq!(text(again).await.unwrap(), "plain");
}
