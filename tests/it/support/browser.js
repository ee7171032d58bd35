// Drives a browser for support/browser.rs. Each line of stdin is a JSON list of steps; each gets one line on stdout, a
// report. All lines share one page and its cookies. The end of stdin ends the browser.
//
//   node browser.js '{"executable": "…", "profile": "…", "args": ["…"]}'

'use strict'

const readline = require('node:readline')
const { chromium } = require('playwright-core')

// What a page does, it does at once: nothing here comes from further than this machine.
const PATIENCE = 30_000

const { executable, profile, args } = JSON.parse(process.argv[2])

async function main () {
  const context = await chromium.launchPersistentContext(profile, { executablePath: executable, args, headless: true })
  context.setDefaultTimeout(PATIENCE)
  let consoleErrors = []
  let violations = []
  await context.exposeBinding('__reportViolation', (_source, violation) => { violations.push(violation) })
  await context.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      window.__reportViolation(`${event.effectiveDirective}: ${event.blockedURI}${event.sample ? ` (${event.sample})` : ''}`)
    })
  })
  const page = context.pages()[0] || await context.newPage()
  page.on('pageerror', (error) => consoleErrors.push(String(error)))
  page.on('console', (message) => {
    if (message.type() !== 'error') return
    const text = message.text()
    consoleErrors.push(text)
    // A form or a navigation that is refused is told here only: the page is gone before its event comes.
    if (/Content Security Policy/i.test(text)) violations.push(text)
  })

  const steps = {
    goto: (url) => page.goto(url),
    reload: () => page.reload(),
    back: () => page.goBack(),
    // A selector of CSS when it finds something; otherwise what the button or the link says.
    click: async (what) => {
      const target = await byCssOrText(what)
      await target.click()
      await page.waitForLoadState()
    },
    fill: ([css, text]) => page.locator(css).fill(text),
    choose: ([css, value]) => page.locator(css).selectOption(value),
    check: (css) => page.locator(css).check(),
    press: ([css, key]) => page.locator(css).press(key),
    expect: (text) => page.getByText(text).first().waitFor({ state: 'visible' }),
    expect_css: (css) => page.locator(css).first().waitFor({ state: 'visible' }),
    // For what must not be there, of a page that is there.
    absent: async (text) => {
      if ((await page.locator('body').innerText()).includes(text)) throw new Error(`the page should not say ${text}`)
    },
    title: async (text) => {
      const title = await page.title()
      if (!title.includes(text)) throw new Error(`the title is ${title}`)
    },
    url_contains: (part) => page.waitForURL((url) => url.href.includes(part)),
    screenshot: (file) => page.screenshot({ path: file, fullPage: true }),
    viewport: ([width, height]) => page.setViewportSize({ width, height }),
    colour_scheme: (colorScheme) => page.emulateMedia({ colorScheme }),
    evaluate: (code) => page.evaluate(code),
    clear_cookies: () => context.clearCookies(),
    cookies: () => context.cookies()
  }

  async function byCssOrText (what) {
    try {
      const found = page.locator(what)
      if (await found.count()) return found.first()
    } catch {
      // No selector at all.
    }
    for (const role of ['button', 'link', 'menuitem', 'checkbox', 'radio']) {
      const found = page.getByRole(role, { name: what })
      if (await found.count()) return found.first()
    }
    return page.getByText(what).first()
  }

  async function run (list) {
    consoleErrors = []
    violations = []
    const report = { ok: true, error: null, results: [] }
    for (const [number, step] of list.entries()) {
      const [name, argument] = Object.entries(step)[0]
      try {
        if (!steps[name]) throw new Error('there is no such step')
        const result = await steps[name](argument)
        const tells = name === 'cookies' || name === 'evaluate'
        report.results.push(tells && result !== undefined ? result : null)
      } catch (error) {
        report.ok = false
        report.error = `step ${number + 1}, ${JSON.stringify(step)}: ${error.message.split('\n').slice(0, 6).join(' / ')}`
        break
      }
    }
    report.url = page.url()
    report.title = await page.title().catch(() => '')
    report.text = await page.locator('body').innerText({ timeout: 1000 }).catch(() => '')
    report.cookies = await context.cookies()
    report.console_errors = consoleErrors
    report.csp_violations = [...new Set(violations)]
    return report
  }

  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (line.trim()) process.stdout.write(`${JSON.stringify(await run(JSON.parse(line)))}\n`)
  }
  await context.close()
}

main().then(
  () => process.exit(0),
  (error) => { console.error(error.message); process.exit(1) }
)
