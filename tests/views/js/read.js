// Reads graph files as JavaScript programs do. One path per line of the input; for each a line of
// JSON with what the program holds afterwards: {directed, graph, nodes: {id: attributes},
// edges: [[source, target, attributes]]}, or {error}.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import cytoscape from "cytoscape";
import Graph from "graphology";
import gexf from "graphology-gexf";
import graphml from "graphology-graphml";

function byGraphology(parser, text) {
  const graph = parser.parse(Graph, text);
  return {
    directed: graph.type === "directed" && !graph.multi,
    graph: graph.getAttributes(),
    nodes: Object.fromEntries(graph.mapNodes((id, attributes) => [id, attributes])),
    edges: graph.mapEdges((_, attributes, source, target) => [source, target, attributes]),
  };
}

function byCytoscape(text) {
  const cy = cytoscape({ headless: true, ...JSON.parse(text) });
  return {
    directed: true,
    graph: cy.data(),
    nodes: Object.fromEntries(
      cy.nodes().map((node) => [node.id(), { ...node.data(), position: node.position() }]),
    ),
    edges: cy.edges().map((edge) => [edge.source().id(), edge.target().id(), edge.data()]),
  };
}

const readers = {
  gexf: (text) => byGraphology(gexf, text),
  graphml: (text) => byGraphology(graphml, text),
  cyjs: byCytoscape,
};

for await (const path of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = readers[path.split(".").pop()](readFileSync(path, "utf8"));
  } catch (error) {
    answer = { error: String(error) };
  }
  console.log(JSON.stringify(answer));
}
