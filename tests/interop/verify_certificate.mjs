// Verify a message signature with a certificate and a timestamp, with the JavaScript client of
// Sigstore, which does all of it: chain, timestamp, validity at its time, identity, signature.
//
//     node verify_certificate.mjs BUNDLE ARTIFACT TRUST.json
//
// TRUST.json has `authority` and `timestamps` (base64 of DER: certificates, the root last, and for
// timestamps the authority's own first) and `identity`. Prints `accepted` and the time that the
// timestamp states, or `refused: REASON`.

import { readFileSync } from 'node:fs'
import { bundleFromJSON } from '@sigstore/bundle'
import { X509Certificate } from '@sigstore/core'
import { Verifier, toSignedEntity } from '@sigstore/verify'

const ALWAYS = { start: new Date(0), end: new Date(8.64e15) }

function authority(certificates) {
  const certChain = certificates.map((der) => X509Certificate.parse(Buffer.from(der, 'base64')))
  return { certChain, validFor: ALWAYS }
}

function check(bundleFile, artifactFile, trustFile) {
  const bundle = bundleFromJSON(JSON.parse(readFileSync(bundleFile, 'utf8')))
  const trust = JSON.parse(readFileSync(trustFile, 'utf8'))
  const entity = toSignedEntity(bundle, readFileSync(artifactFile))
  const material = {
    certificateAuthorities: [authority(trust.authority)],
    timestampAuthorities: [authority(trust.timestamps)],
    tlogs: [],
    ctlogs: [],
    publicKey: () => { throw new Error('no key was expected') }
  }
  const options = { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 1 }
  new Verifier(material, options).verify(entity, { subjectAlternativeName: trust.identity })
  return entity.timestamps[0].timestamp.signingTime.toISOString()
}

try {
  console.log(`accepted ${check(...process.argv.slice(2))}`)
} catch (error) {
  console.log(`refused: ${error.message}`)
  process.exitCode = 1
}
