// Holds answers against GitHub's published OpenAPI description.
//
//   node validate_github.js < answers.json
//
// stdin is a JSON list of { method, path, status, body } with the path as the description has it, such as
// /orgs/{org}/members, and with `body` absent or null when the answer had none. Optional members:
//   `in`      the description to use: api.github.com, which is the default, or ghes-X.Y for an Enterprise Server
//   `schema`  the name of a schema, for an endpoint that has gone from all descriptions
// Prints each problem, and ends with 1 if there is one. Needs NODE_PATH to have @octokit/openapi and ajv.

'use strict'

const fs = require('node:fs')
const path = require('node:path')
const Ajv = require('ajv')
const addFormats = require('ajv-formats')

const folder = path.join(path.dirname(require.resolve('@octokit/openapi/package.json')), 'generated')

const pointer = (...steps) => steps.map((step) => `/${String(step).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')

class Description {
  constructor (name) {
    this.name = name
    this.document = JSON.parse(fs.readFileSync(path.join(folder, `${name}.json`), 'utf8'))
    // Not strict: OpenAPI has keywords of its own. The document is no schema itself, only full of them.
    this.ajv = new Ajv({ strict: false, validateSchema: false, allErrors: true, logger: false })
    addFormats(this.ajv)
    this.ajv.addSchema(this.document, 'description')
  }

  at (where) {
    return where.split('/').slice(1).reduce(
      (value, step) => value?.[step.replaceAll('~1', '/').replaceAll('~0', '~')],
      this.document
    )
  }

  // Follows references to where something really is.
  resolve (where) {
    const reference = this.at(where)?.$ref
    return reference ? this.resolve(reference.slice(1)) : where
  }

  problems (where, body) {
    const reference = `description#${where.split('/').map(encodeURIComponent).join('/')}`
    const validate = this.ajv.getSchema(reference)
    if (!validate) return [`there is no schema at ${where}`]
    if (validate(body)) return []
    return validate.errors.map((error) => `${error.instancePath || 'the body'} ${error.message} ${JSON.stringify(error.params)}`)
  }

  check ({ method, path: template, status, body, schema }) {
    if (schema) return this.problems(pointer('components', 'schemas', schema), body)
    const operation = pointer('paths', template, method.toLowerCase())
    if (!this.at(operation)) return ['the description has no such operation']
    const response = `${operation}${pointer('responses', status)}`
    if (!this.at(response)) {
      // Few errors are listed. All have the same shape.
      if (status >= 400) return this.problems('/components/schemas/basic-error', body)
      return [`the description has no status ${status} there, only ${Object.keys(this.at(`${operation}/responses`)).join(', ')}`]
    }
    const content = `${this.resolve(response)}/content`
    const types = Object.keys(this.at(content) || {})
    const type = types.find((name) => name.endsWith('json'))
    if (!type) return body == null ? [] : ['there should be no body']
    if (body == null) return ['there should be a body']
    return this.problems(this.resolve(`${content}${pointer(type, 'schema')}`), body)
  }
}

const descriptions = new Map()
function description (name) {
  if (!descriptions.has(name)) descriptions.set(name, new Description(name))
  return descriptions.get(name)
}

let found = 0
const answers = JSON.parse(fs.readFileSync(0, 'utf8'))
for (const answer of answers) {
  const name = answer.in || 'api.github.com'
  for (const problem of description(name).check(answer)) {
    found += 1
    console.log(`${answer.method} ${answer.path} ${answer.status}, by ${name}: ${problem}`)
  }
}
console.log(`${answers.length} answers, ${found} problems`)
process.exitCode = found ? 1 : 0
