//! What to do about an image that cannot be pulled, from what the engine says of it. Pure.
//!
//! Registries word their refusals, engines pass them on; both engines' texts are told apart by the same few words.

/// What to do, where that is known.
pub(crate) fn hint(engine: &str, image: &str, said: &str) -> Option<String> {
    let said = said.to_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
    let registry = registry(image);
    let login = match registry {
        Some(registry) => format!("`{engine} login {registry}`"),
        None => format!("`{engine} login`"),
    };
    Some(if says(&["may require 'docker login'", "requested access to the resource is denied"]) {
        format!("look at its name; if it is private, log in first: {login}")
    } else if says(&[
        "no basic auth credentials",
        "unauthorized",
        "authentication required",
        "access denied",
        "forbidden",
    ]) {
        format!("log in first: {login}")
    } else if says(&["manifest unknown", "name unknown", "not found", "no such image"]) {
        "the registry has no such image: look at its name and its tag".to_owned()
    } else if says(&["server gave http response to https client"]) {
        format!("the registry does not speak TLS: if it is yours, {engine} can be told that it is insecure")
    } else if says(&["connection refused", "no such host", "i/o timeout", "no route to host", "network is unreachable"])
    {
        format!("{} does not answer: look at the name and at the network", registry.unwrap_or("the registry"))
    } else if says(&["short-name"]) {
        "name the registry too: `docker.io/library/…`".to_owned()
    } else {
        return None;
    })
}

/// Whether the engine says that it has no such image, rather than that it cannot tell.
pub(crate) fn is_absent(said: &str) -> bool {
    let said = said.to_lowercase();
    ["no such image", "image not known", "no such object"].iter().any(|part| said.contains(part))
}

/// The registry that an image's name begins with, if it does.
fn registry(image: &str) -> Option<&str> {
    let (first, _) = image.split_once('/')?;
    (first == "localhost" || first.contains(['.', ':'])).then_some(first)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_hint() {
        // The engines are called by their letters: nothing here knows them.
        let docker = |image: &str, said: &str| hint("d", image, said).unwrap_or_default();
        let head = r#"Head "http://127.0.0.1:5055/v2/x/manifests/1": no basic auth credentials"#;
        assert_eq!(docker("127.0.0.1:5055/x:1", head), "log in first: `d login 127.0.0.1:5055`");
        let denied = "pull access denied for x, repository does not exist or may require 'docker login': denied: \
                      requested access to the resource is denied";
        assert!(docker("x:1", denied).ends_with("if it is private, log in first: `d login`"));
        assert!(docker("r.io/x:1", "manifest for r.io/x:1 not found: manifest unknown").contains("no such image"));
        assert!(docker("r.io/x", "dial tcp: lookup r.io: no such host").starts_with("r.io does not answer"));
        assert_eq!(hint("d", "x", "toomanyrequests: you have reached your pull rate limit"), None);
        let podman = |said: &str| hint("p", "r.io:5000/x:1", said).unwrap();
        let asked = "initializing source docker://r.io:5000/x:1: reading manifest 1 in r.io:5000/x: unauthorized: \
                     authentication required";
        assert_eq!(podman(asked), "log in first: `p login r.io:5000`");
        assert!(podman("http: server gave HTTP response to HTTPS client").contains("insecure"));
    }

    #[test]
    fn an_image_that_is_not_there_is_told_from_a_look_that_failed() {
        assert!(is_absent("Error response from daemon: no such image: x:1: No such image: x:1"));
        assert!(is_absent("Error: inspecting object: x:1: image not known"));
        let busy = r#"Error: locating item named "manifest" for image with ID "292a" (consider removing the image to resolve the issue): file does not exist"#;
        assert!(!is_absent(busy));
    }

    #[test]
    fn a_name_may_begin_with_a_registry() {
        assert_eq!(registry("busybox:1"), None);
        assert_eq!(registry("library/busybox"), None);
        assert_eq!(registry("localhost/x"), Some("localhost"));
        assert_eq!(registry("r.io/a/x@sha256:00"), Some("r.io"));
    }
}
