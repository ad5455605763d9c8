// Prometheus' own parsers, without the service discovery that promtool brings along. Arguments are rule files: each is
// checked as `promtool check rules` does. Standard input has one PromQL expression a line. The answer is a line of JSON for
// each expression, of the files first: its text, and the selectors in it with the labels that they and the aggregations name.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

type answer struct {
	Expression string   `json:"expression"`
	Metrics    []string `json:"metrics"`
	Labels     []string `json:"labels"`
	// Name, and the text that it is compared with.
	Matchers [][2]string `json:"matchers"`
}

func main() {
	promql := parser.NewParser(parser.Options{})
	out := json.NewEncoder(os.Stdout)
	tell := func(expression string) {
		read, err := parse(promql, expression)
		if err != nil {
			fail("%s: %v", expression, err)
		}
		if err := out.Encode(read); err != nil {
			fail("%v", err)
		}
	}
	for _, path := range os.Args[1:] {
		groups, errs := rulefmt.ParseFile(path, false, model.UTF8Validation, promql, slog.Default())
		if len(errs) > 0 {
			fail("%s: %v", path, errs)
		}
		for _, group := range groups.Groups {
			for _, rule := range group.Rules {
				tell(rule.Expr)
			}
		}
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		tell(lines.Text())
	}
	if err := lines.Err(); err != nil {
		fail("%v", err)
	}
}

func parse(promql parser.Parser, expression string) (answer, error) {
	read := answer{Expression: expression, Metrics: []string{}, Labels: []string{}, Matchers: [][2]string{}}
	tree, err := promql.ParseExpr(expression)
	if err != nil {
		return read, err
	}
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		switch node := node.(type) {
		case *parser.VectorSelector:
			read.Metrics = append(read.Metrics, node.Name)
			for _, matcher := range node.LabelMatchers {
				if matcher.Name != labels.MetricName {
					read.Labels = append(read.Labels, matcher.Name)
					read.Matchers = append(read.Matchers, [2]string{matcher.Name, matcher.Value})
				}
			}
		case *parser.AggregateExpr:
			read.Labels = append(read.Labels, node.Grouping...)
		case *parser.BinaryExpr:
			if node.VectorMatching != nil {
				read.Labels = append(read.Labels, node.VectorMatching.MatchingLabels...)
				read.Labels = append(read.Labels, node.VectorMatching.Include...)
			}
		}
		return nil
	})
	return read, nil
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}
