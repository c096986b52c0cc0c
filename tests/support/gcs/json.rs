//! The JSON API: list, metadata, copy, delete.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use super::bucket::{Bucket, DESCRIBED, is_name};
use super::{Answer, BUCKET, Request};

/// The form of its failures.
pub(super) fn failure(code: u16, reason: &str, message: &str) -> Answer {
    let body = json!({"error": {"code": code, "message": message,
                                "errors": [{"domain": "global", "reason": reason, "message": message}]}});
    Answer::new(code, "application/json; charset=UTF-8", body.to_string())
}

fn good(body: &Value) -> Answer {
    Answer::new(200, "application/json; charset=UTF-8", body.to_string())
}

fn no_object(name: &str) -> Answer {
    failure(404, "notFound", &format!("No such object: {BUCKET}/{name}"))
}

fn not_met() -> Answer {
    failure(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
}

fn unknown(what: &str) -> Answer {
    failure(400, "invalidParameter", &format!("Unknown: {what}"))
}

/// Whether a condition on a generation holds; `None` if it is none.
fn holds(wanted: Option<&str>, generation: u64) -> Option<bool> {
    match wanted {
        None => Some(true),
        Some(text) => text.parse().ok().map(|wanted: u64| wanted == generation),
    }
}

pub(super) fn list(bucket: &Bucket, request: &Request) -> Answer {
    if request.method != "GET" {
        return failure(501, "notImplemented", "only lists");
    }
    let known = ["prefix", "startOffset", "maxResults", "pageToken", "fields"];
    if let Some(strange) = request.strange_query(&known) {
        return unknown(strange);
    }
    let prefix = request.query("prefix").unwrap_or_default();
    let start = request.query("startOffset").unwrap_or_default();
    let most = request.query("maxResults").and_then(|text| text.parse().ok()).unwrap_or(1000).min(bucket.page);
    let token = match request.query("pageToken").map(|token| BASE64.decode(token)) {
        None => None,
        Some(Ok(token)) => Some(String::from_utf8_lossy(&token).into_owned()),
        Some(Err(_)) => return failure(400, "invalid", "Invalid pageToken"),
    };
    let after = |name: &str| token.as_deref().is_none_or(|token| name > token);
    let mut names =
        bucket.objects.iter().filter(|(name, _)| name.starts_with(prefix) && name.as_str() >= start && after(name));
    let page: Vec<_> = names.by_ref().take(most).collect();
    let more = names.next().is_some();
    let fields = request.query("fields").unwrap_or("kind,nextPageToken,items");
    let mut answer = Map::new();
    answer.insert("kind".into(), json!("storage#objects"));
    if fields != "kind" && !page.is_empty() {
        let wanted =
            fields.split_once("items(").map(|(_, rest)| rest.trim_end_matches(')').split(',').collect::<Vec<_>>());
        let items = page.iter().map(|(name, object)| {
            let mut item = object.resource(name);
            if let (Some(wanted), Some(fields)) = (&wanted, item.as_object_mut()) {
                fields.retain(|field, _| wanted.contains(&field.as_str()));
            }
            item
        });
        answer.insert("items".into(), items.collect());
    }
    if let (true, Some((last, _))) = (more && fields != "kind", page.last()) {
        answer.insert("nextPageToken".into(), json!(BASE64.encode(last)));
    }
    good(&Value::Object(answer))
}

pub(super) fn object(bucket: &mut Bucket, request: &Request, name: &str) -> Answer {
    if let Some(strange) = request.strange_query(&["ifGenerationMatch"]) {
        return unknown(strange);
    }
    let from = request.path.get(3).map(String::as_str).unwrap_or_default();
    let Some(object) = bucket.get(from, name) else { return no_object(name) };
    match holds(request.query("ifGenerationMatch"), object.generation) {
        Some(true) => {}
        Some(false) => return not_met(),
        None => return unknown("ifGenerationMatch"),
    }
    match request.method.as_str() {
        "GET" => good(&object.resource(name)),
        "DELETE" if from == BUCKET => {
            bucket.objects.remove(name);
            Answer::new(204, "application/json", "")
        }
        _ => failure(501, "notImplemented", "no such call on an object"),
    }
}

pub(super) fn rewrite(bucket: &mut Bucket, request: &Request, (from, source): (&str, &str), target: &str) -> Answer {
    let known = ["ifSourceGenerationMatch", "ifGenerationMatch", "rewriteToken", "destinationKmsKeyName"];
    if request.method != "POST" {
        return failure(501, "notImplemented", "only POST");
    }
    if let Some(strange) = request.strange_query(&known) {
        return unknown(strange);
    }
    if !is_name(target) {
        return failure(400, "invalid", "Invalid object name");
    }
    let Some(found) = bucket.get(from, source).cloned() else { return no_object(source) };
    let source_holds = holds(request.query("ifSourceGenerationMatch"), found.generation);
    match (source_holds, holds(request.query("ifGenerationMatch"), bucket.generation(target))) {
        (Some(true), Some(true)) => {}
        (Some(_), Some(_)) => return not_met(),
        _ => return unknown("a generation"),
    }
    // What is sent replaces all that the source has.
    let described = match request.body.is_empty() {
        true => found.described.clone(),
        false => match serde_json::from_slice::<Map<String, Value>>(&request.body) {
            Ok(sent) if sent.keys().all(|field| DESCRIBED.contains(&field.as_str())) => sent,
            _ => return failure(400, "parseError", "Parse Error"),
        },
    };
    let prefix = format!("{source}>{target}#");
    let moved =
        match request.query("rewriteToken").map(|token| token.strip_prefix(&prefix).and_then(|n| n.parse().ok())) {
            None => 0usize,
            Some(Some(moved)) => moved,
            Some(None) => return failure(400, "invalid", "Invalid rewrite token"),
        };
    let total = found.body.len();
    let moved = moved.saturating_add(bucket.step_bytes).min(total);
    let mut answer = json!({"kind": "storage#rewriteResponse", "totalBytesRewritten": moved.to_string(),
                            "objectSize": total.to_string(), "done": moved == total});
    if moved == total {
        let kms_key = request.query("destinationKmsKeyName").map(str::to_owned);
        bucket.store(target, found.body, found.composite, described, kms_key);
        answer["resource"] = bucket.objects[target].resource(target);
    } else {
        answer["rewriteToken"] = json!(format!("{prefix}{moved}"));
    }
    good(&answer)
}
