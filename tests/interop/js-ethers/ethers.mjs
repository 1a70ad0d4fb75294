// Answers each JSON line of stdin with one, in order, until stdin ends: what ethers.js makes of typed data and of
// wallet files. An integer is a decimal string, for a number of JavaScript has 53 bits.
import { createInterface } from 'node:readline'
import {
  HDNodeWallet, TypedDataEncoder, Wallet, decryptKeystoreJsonSync, encryptKeystoreJsonSync, verifyTypedData, version
} from 'ethers'

const HANDLERS = {
  version: () => ({ version }),

  /** What EIP-712 makes of a message; it needs no key. */
  hash: ({ domain, types, primaryType, message }) => {
    const encoder = TypedDataEncoder.from(types)
    if (encoder.primaryType !== primaryType) throw new Error(`the types are those of ${encoder.primaryType}`)
    return {
      encodeType: encoder.encodeType(primaryType),
      domainSeparator: TypedDataEncoder.hashDomain(domain),
      structHash: encoder.hash(message),
      digest: TypedDataEncoder.hash(domain, types, message)
    }
  },

  sign: async ({ domain, types, message, key }) => {
    return { signature: await new Wallet(key).signTypedData(domain, types, message) }
  },

  /** Whose signature it is. */
  recover: ({ domain, types, message, signature }) => ({ signer: verifyTypedData(domain, types, message, signature) }),

  /** A wallet file. Without scryptN: with the work that ethers gives it by itself. */
  encrypt: ({ key, password, scryptN }) => {
    const options = scryptN === undefined ? {} : { scrypt: { N: scryptN, r: 8, p: 1 } }
    return { keystore: encryptKeystoreJsonSync(new Wallet(key), password, options) }
  },

  /** A wallet file as ethers writes it for a phrase: with the phrase inside, in fields of its own. */
  encryptPhrase: ({ phrase, password }) => {
    const wallet = HDNodeWallet.fromPhrase(phrase)
    return { keystore: wallet.encryptSync(password), key: wallet.privateKey }
  },

  decrypt: ({ keystore, password }) => {
    const { address, privateKey } = decryptKeystoreJsonSync(keystore, password)
    return { address, key: privateKey }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { cmd, ...request } = JSON.parse(line)
  let answer
  try {
    answer = { ok: true, ...await HANDLERS[cmd](request) }
  } catch (error) {
    answer = { ok: false, error: `${error.name}: ${error.message}` }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
