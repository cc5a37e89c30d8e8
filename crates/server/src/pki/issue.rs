//! Certificates for the keys of others, as CertificateSigningRequests ask for them (api-facts §9.10).
//!
//! The certificate is written out here and not by rcgen, which keeps only one organization of a subject: groups would
//! be lost.

use jiff::{SignedDuration, Timestamp};
use mizzen_api::signing_request::SigningRequest;
use rcgen::{KeyPair, SigningKey};
use yasna::models::ObjectIdentifier;
use yasna::tags::{TAG_GENERALIZEDTIME, TAG_UTCTIME};
use yasna::{DERWriter, Tag};

use super::PkiError;
use super::authority::{Authority, CLOCK_SKEW, LEAF_LIFE, pem_of_certificate, serial};

/// The shortest life that may be asked for.
const LIFE_MIN: SignedDuration = SignedDuration::from_mins(10);
/// How long before now certificates of others begin to be valid.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// Of longer lives the time before now is taken off at the end.
const SHORT_LIFE: SignedDuration = SignedDuration::from_hours(8);

const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const ALTERNATIVE_NAMES: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const AUTHORITY_KEY: &[u64] = &[2, 5, 29, 35];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];

/// The bit of each usage of keys (RFC 5280, 4.2.1.3).
const KEY_USAGES: &[(&str, u32)] = &[
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

/// The object identifier of each extended usage (RFC 5280, 4.2.1.12; the last two are Microsoft's and Netscape's).
const EXTENDED_USAGES: &[(&str, &[u64])] = &[
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113730, 4, 1]),
];

/// A certificate for the key of `request` with its subject and names, PEM. `life` is at most a year, which is also what
/// is given if nothing is asked for, and never longer than the authority's own.
pub fn issue(
    authority: &Authority,
    request: &SigningRequest,
    usages: &[String],
    life: Option<SignedDuration>,
    now: Timestamp,
) -> Result<String, PkiError> {
    let life = life.unwrap_or(LEAF_LIFE).clamp(LIFE_MIN, LEAF_LIFE);
    let end = if life < SHORT_LIFE { now + life } else { now + life - BACKDATE };
    let ca = authority.parsed()?;
    let end = end.as_second().min(ca.validity.not_after.timestamp());
    let start = (now - BACKDATE.min(CLOCK_SKEW)).as_second();
    let unsupported =
        || PkiError::Issue { name: "a certificate request", source: rcgen::Error::UnsupportedSignatureAlgorithm };
    let algorithm = algorithm(authority.key()).ok_or_else(unsupported)?;
    let serial = serial()?;
    let body = yasna::construct_der(|writer| {
        writer.write_sequence(|certificate| {
            certificate.next().write_tagged(Tag::context(0), |version| version.write_u8(2));
            certificate.next().write_bigint_bytes(&serial, true);
            certificate.next().write_der(&algorithm);
            certificate.next().write_der(ca.subject.as_raw());
            certificate.next().write_sequence(|validity| {
                time(validity.next(), start);
                time(validity.next(), end);
            });
            certificate.next().write_der(&request.subject);
            certificate.next().write_der(&request.public_key);
            certificate.next().write_tagged(Tag::context(3), |list| extensions(list, request, usages, &ca));
        });
    });
    let signature =
        authority.key().sign(&body).map_err(|source| PkiError::Issue { name: "a certificate request", source })?;
    let der = yasna::construct_der(|writer| {
        writer.write_sequence(|whole| {
            whole.next().write_der(&body);
            whole.next().write_der(&algorithm);
            whole.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    });
    Ok(pem_of_certificate(&der))
}

/// The AlgorithmIdentifier of the authority's signatures.
fn algorithm(key: &KeyPair) -> Option<Vec<u8>> {
    let known: [(&rcgen::SignatureAlgorithm, &[u64], bool); 4] = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, &[1, 2, 840, 10045, 4, 3, 2], false),
        (&rcgen::PKCS_ECDSA_P384_SHA384, &[1, 2, 840, 10045, 4, 3, 3], false),
        (&rcgen::PKCS_ED25519, &[1, 3, 101, 112], false),
        (&rcgen::PKCS_RSA_SHA256, &[1, 2, 840, 113549, 1, 1, 11], true),
    ];
    let (_, oid, null) = known.into_iter().find(|(algorithm, ..)| *algorithm == key.algorithm())?;
    Some(yasna::construct_der(|writer| {
        writer.write_sequence(|algorithm| {
            algorithm.next().write_oid(&ObjectIdentifier::from_slice(oid));
            if null {
                algorithm.next().write_null();
            }
        });
    }))
}

/// Times before 2050 are UTCTime, later ones GeneralizedTime (RFC 5280, 4.1.2.5).
fn time(writer: DERWriter<'_>, seconds: i64) {
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    let early = time.to_zoned(jiff::tz::TimeZone::UTC).year() < 2050;
    let (tag, form) = if early { (TAG_UTCTIME, "%y%m%d%H%M%SZ") } else { (TAG_GENERALIZEDTIME, "%Y%m%d%H%M%SZ") };
    let text = time.strftime(form).to_string();
    writer.write_tagged_implicit(tag, |writer| writer.write_bytes(text.as_bytes()));
}

fn extensions(
    writer: DERWriter<'_>,
    request: &SigningRequest,
    usages: &[String],
    ca: &x509_parser::certificate::TbsCertificate<'_>,
) {
    let has = |name: &str| usages.iter().any(|usage| usage == name);
    let bits: Vec<u32> = KEY_USAGES.iter().filter(|(name, _)| has(name)).map(|(_, bit)| *bit).collect();
    let extended: Vec<&[u64]> = EXTENDED_USAGES.iter().filter(|(name, _)| has(name)).map(|(_, oid)| *oid).collect();
    let authority_key = ca.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    writer.write_sequence(|list| {
        if let Some(last) = bits.iter().max() {
            let mut bytes = [0u8; 2];
            for bit in &bits {
                bytes[(bit / 8) as usize] |= 0x80 >> (bit % 8);
            }
            let value = yasna::construct_der(|value| {
                value.write_bitvec_bytes(&bytes[..=(last / 8) as usize], (last + 1) as usize)
            });
            extension(list.next(), KEY_USAGE, true, &value);
        }
        if !extended.is_empty() {
            let value = yasna::construct_der(|value| {
                value.write_sequence(|list| {
                    for oid in &extended {
                        list.next().write_oid(&ObjectIdentifier::from_slice(oid));
                    }
                });
            });
            extension(list.next(), EXTENDED_KEY_USAGE, false, &value);
        }
        // Of no authority: the sequence without its flag.
        extension(list.next(), BASIC_CONSTRAINTS, true, &yasna::construct_der(|value| value.write_sequence(|_| {})));
        if let Some(id) = authority_key {
            let value = yasna::construct_der(|value| {
                value.write_sequence(|list| {
                    list.next().write_tagged_implicit(Tag::context(0), |key| key.write_bytes(id))
                });
            });
            extension(list.next(), AUTHORITY_KEY, false, &value);
        }
        if let Some(names) = &request.alternative_names {
            extension(list.next(), ALTERNATIVE_NAMES, false, names);
        }
    });
}

fn extension(writer: DERWriter<'_>, oid: &[u64], critical: bool, value: &[u8]) {
    writer.write_sequence(|extension| {
        extension.next().write_oid(&ObjectIdentifier::from_slice(oid));
        if critical {
            extension.next().write_bool(true);
        }
        extension.next().write_bytes(value);
    });
}
