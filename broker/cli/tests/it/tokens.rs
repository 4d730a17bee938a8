use std::fs;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

use crate::support::{Broker, broker_says, eventually, fresh};

const TOKEN: &str = "CURRANT_TOKEN";

#[test]
fn tokens_are_made_used_listed_and_revoked() {
    let create = ["token", "create", "root", "--scope", "admin"];
    let root = broker_says(&create, "currant_");
    let broker = Broker::start(&[("CURRANT_ACCESS__REQUIRED", "true")]);
    let ran = broker.run(&["queue", "list"]);
    assert_eq!((ran.code, &*ran.out), (5, ""), "{ran:?}");

    let name = fresh("reader");
    let create = ["token", "create", &name, "--scope", "read", "--queue", "a*", "--expires", "90d"];
    let as_root = [(TOKEN, &*root)];
    let made = broker.json_with(&as_root, &create).remove(0);
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    assert_eq!((&made["scopes"], &made["queues"]), (&json!(["read"]), &json!(["a*"])));
    assert!(made["expires_at"].is_string() && made["revoked_at"].is_null(), "{made}");

    // What each may do.
    let doctor = |variables: &[(&str, &str)]| broker.run_with(variables, &["doctor"]);
    let (reader, nobody) = (doctor(&[(TOKEN, secret)]), doctor(&[]));
    assert!(reader.code == 0 && reader.out.contains("to look (read)\n"), "{reader:?}");
    assert!(nobody.code == 4 && nobody.out.contains("CURRANT_TOKEN"), "{nobody:?}");

    // By an argument, by the variable, by a file.
    assert_eq!(broker.run(&["queue", "list", "--token", secret]).code, 0);
    let path = std::env::temp_dir().join(&name);
    fs::write(&path, format!("{secret}\n")).unwrap();
    assert_eq!(broker.run(&["--token-file", path.to_str().unwrap(), "queue", "list"]).code, 0);
    fs::remove_file(&path).unwrap();
    let as_reader = [(TOKEN, secret)];
    let ran = broker.run_with(&as_reader, &["queue", "pause", "apples"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert_eq!(broker.run_with(&as_reader, &["queue", "show", "pears"]).code, 5);

    let listed = broker.json_with(&as_root, &["token", "list"]);
    let mine = listed.iter().find(|one| one["id"] == json!(id)).unwrap();
    assert!(mine.get("secret").is_none() && mine["name"] == json!(name), "{mine}");
    broker.json_with(&as_root, &["token", "revoke", id]);
    assert_eq!(broker.run_with(&as_reader, &["queue", "list"]).code, 5);
    assert_eq!(broker.run_with(&as_root, &["token", "revoke", "999999"]).code, 3);
    let host = format!("{name}.example.org");
    let granted = ["token", "create", "host", "--scope", "work", "--certificate", &host];
    let made = broker.json_with(&as_root, &granted).remove(0);
    assert!(made.get("secret").is_none(), "{made}");
}

#[test]
fn a_file_that_is_not_there_is_said() {
    let ran = Broker::shared().run(&["--token-file", "/nowhere/token", "queue", "list"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("error: reading /nowhere/token: "), "{}", ran.err);
}

#[test]
fn a_broker_with_tls_is_reached_with_its_authority_and_a_certificate() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let directory = std::env::temp_dir().join(fresh("currant-tls"));
    fs::create_dir_all(&directory).unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let sign = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let ca = file("ca", &ca);
    let ((of_broker, its_key), (of_person, their_key)) =
        (sign("localhost"), sign("ada.example.org"));
    let broker = Broker::start(&[
        ("CURRANT_ACCESS__REQUIRED", "true"),
        ("CURRANT_TLS__CERTIFICATE_FILE", &file("certificate", &of_broker)),
        ("CURRANT_TLS__KEY_FILE", &file("key", &its_key)),
        ("CURRANT_TLS__CLIENT_CA_FILE", &ca),
    ]);
    let grant = ["token", "create", "--name", "ada", "--scope", "read"];
    broker_says(&[&grant[..], &["--certificate", "ada.example.org"]].concat(), "");
    let address = broker.address.replace("http://127.0.0.1", "https://localhost");
    let (certificate, key) = (file("mine", &of_person), file("my-key", &their_key));
    let list = ["queue", "list", "--address", &address];
    let mine = ["--certificate-file", &certificate, "--key-file", &key];
    let known = [&list[..], &["--ca-file", &ca], &mine].concat();
    eventually("the grant is heard of", || broker.run(&known).code == 0);
    assert_eq!(broker.run(&[&list[..], &["--ca-file", &ca]].concat()).code, 5, "nobody");
    assert_eq!(broker.run(&[&list[..], &mine].concat()).code, 1, "not trusted");
    // Without TLS certificates are of no use, and a certificate without its key.
    assert_eq!(broker.run(&["queue", "list", "--ca-file", &ca]).code, 2);
    assert_eq!(broker.run(&[&list[..], &mine[..2]].concat()).code, 2);
    fs::remove_dir_all(&directory).unwrap();
}
