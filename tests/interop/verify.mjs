// Verify a bundle (message signature or DSSE) with the JavaScript client of Sigstore.
//
//     node verify.mjs BUNDLE ARTIFACT PUBLIC_KEY.pem
//
// Prints which code accepted the signature and exits 0, or `refused: REASON` and exits 1.
//
// `@sigstore/verify` hashes with the algorithm that names the message digest, always SHA-256 in
// bundles of r1prov. So it can check ECDSA P-256, and RSA-PSS when told of the padding. For
// Ed25519 (no hash of its own) and the larger curves (SHA-384, SHA-512) the bundle is read by
// `@sigstore/bundle` and the signature in it is verified by Node. It verifies DSSE with the hash that
// Node takes for a key by default, so there Ed25519 is checked by `@sigstore/verify` too.
//
// A DSSE bundle holds its own payload, an in-toto statement: the artifact must be a subject of it.

import crypto from 'node:crypto'
import { readFileSync } from 'node:fs'
import { bundleFromJSON } from '@sigstore/bundle'
import { dsse } from '@sigstore/core'
import { Verifier, toSignedEntity } from '@sigstore/verify'

const HASHES = { prime256v1: 'sha256', secp384r1: 'sha384', secp521r1: 'sha512' }
const PSS = { padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }

function check(bundleFile, artifactFile, keyFile) {
  const bundle = bundleFromJSON(JSON.parse(readFileSync(bundleFile, 'utf8')))
  const artifact = readFileSync(artifactFile)
  const key = crypto.createPublicKey(readFileSync(keyFile))
  const spki = key.export({ type: 'spki', format: 'der' })
  const keyId = crypto.createHash('sha256').update(spki).digest('hex')

  const entity = toSignedEntity(bundle, artifact)
  if (entity.key.$case !== 'public-key' || entity.key.hint !== keyId) {
    throw new Error('the bundle names another key')
  }
  const envelope = bundle.content.$case === 'dsseEnvelope' ? bundle.content.dsseEnvelope : null
  if (envelope === null && !entity.signature.compareDigest(crypto.createHash('sha256').update(artifact).digest())) {
    throw new Error('the message digest is of another artifact')
  }

  const hash = HASHES[key.asymmetricKeyDetails?.namedCurve] ?? null
  const byDefault = envelope !== null && key.asymmetricKeyType === 'ed25519'
  if (key.asymmetricKeyType === 'rsa' || hash === 'sha256' || byDefault) {
    const publicKey = key.asymmetricKeyType === 'rsa' ? { key, ...PSS } : key
    const material = {
      certificateAuthorities: [],
      timestampAuthorities: [],
      tlogs: [],
      ctlogs: [],
      publicKey: () => ({ publicKey, validFor: () => true })
    }
    const options = { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 }
    new Verifier(material, options).verify(entity)
    if (envelope !== null) checkSubject(envelope, artifact)
    return '@sigstore/verify'
  }
  const signature = envelope?.signatures[0].sig ?? bundle.content.messageSignature.signature
  const signed = envelope ? dsse.preAuthEncoding(envelope.payloadType, envelope.payload) : artifact
  if (!crypto.verify(hash, signed, key, signature)) {
    throw new Error('signature verification failed')
  }
  if (envelope !== null) checkSubject(envelope, artifact)
  return '@sigstore/bundle'
}

function checkSubject(envelope, artifact) {
  const digest = crypto.createHash('sha256').update(artifact).digest('hex')
  const statement = JSON.parse(envelope.payload.toString('utf8'))
  if (!statement.subject.some((one) => one.digest.sha256 === digest)) {
    throw new Error('the statement is of other artifacts')
  }
}

try {
  console.log(`accepted by ${check(...process.argv.slice(2))}`)
} catch (error) {
  console.log(`refused: ${error.message}`)
  process.exitCode = 1
}
