{{- define "svc.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "svc.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "svc.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "svc.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "svc.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "svc.selectorLabels" -}}
app.kubernetes.io/name: {{ include "svc.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Helm itself adds app.kubernetes.io/managed-by when it installs. */ -}}
{{- define "svc.labels" -}}
{{ include "svc.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "svc.image" -}}
{{- $image := .Values.image }}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{- /* An IPv6 address needs brackets before its port. */ -}}
{{- define "svc.master" -}}
{{- $host := .Values.k8sServiceHost }}
{{- if and (contains ":" $host) (not (hasPrefix "[" $host)) }}{{ $host = printf "[%s]" $host }}{{ end }}
{{- printf "https://%s:%d" $host (int .Values.k8sServicePort) }}
{{- end }}

{{- /* Not empty if svc gets the rights to give addresses and to announce them. */ -}}
{{- define "svc.hasLoadBalancer" -}}
{{- if or .Values.rbac.loadBalancer .Values.loadBalancer }}yes{{ end }}
{{- end }}

{{- /* Flags of `svc-ctl run`, one a line: only what is set. */ -}}
{{- define "svc.flags" -}}
{{- $config := .Values.config }}
{{- if .Values.kubeProxy.configMap }}
- --config=/var/lib/kube-proxy/config.conf
{{- else if .Values.loadBalancer }}
- --config=/etc/svc/config.yaml
{{- end }}
{{- range $flag, $list := dict "nodeport-addresses" $config.nodePortAddresses "service-cidr" $config.serviceCIDR "cluster-cidr" $config.clusterCIDR }}
{{- with $list }}
- --{{ $flag }}={{ join "," . }}
{{- end }}
{{- end }}
{{- range $flag, $word := dict "detect-local-mode" $config.detectLocalMode "pod-bridge-interface" $config.podBridgeInterface "pod-interface-name-prefix" $config.podInterfaceNamePrefix "selection" $config.selection "snat-ports" $config.snatPorts "healthz-bind-address" $config.healthzBindAddress "log-format" .Values.logFormat "load-balancer-class" $config.loadBalancerClass "masquerade-through-stack" $config.masqueradeThroughStack "unknown-external-ports" $config.unknownExternalPorts }}
{{- with $word }}
- --{{ $flag }}={{ . }}
{{- end }}
{{- end }}
{{- range $flag, $number := dict "flow-table-size" $config.flowTableSize "new-flow-limit" $config.newFlowLimit "max-table-entries" $config.maxTableEntries "metrics-service-ports" $config.metricsServicePorts "oom-score-adj" $config.oomScoreAdj "v" .Values.logLevel }}
{{- if not (kindIs "invalid" $number) }}
- --{{ $flag }}={{ int64 $number }}
{{- end }}
{{- end }}
{{- range $flag, $names := dict "uplink" $config.uplinks "pod-interface" $config.podInterfaces "exclude-interface" $config.excludeInterfaces }}
{{- range $names }}
- {{ printf "--%s=%s" $flag . | quote }}
{{- end }}
{{- end }}
{{- with $config.featureGates }}
{{- $gates := list }}
{{- range $name, $value := . }}{{ $gates = append $gates (printf "%s=%t" $name $value) }}{{ end }}
- --feature-gates={{ join "," $gates }}
{{- end }}
{{- range $config.dns }}
- {{ printf "--dns=%s" (ternary "$(HOST_IPS)" . (eq . "node")) | quote }}
{{- end }}
{{- with $config.dnsDomain }}
- --dns-domain={{ . }}
{{- end }}
{{- /* An empty value is a setting: no server is asked. */ -}}
{{- if not (kindIs "invalid" $config.dnsUpstream) }}
- --dns-upstream={{ $config.dnsUpstream }}
{{- end }}
{{- if $config.bpfStats }}
- --bpf-stats
{{- end }}
{{- if $config.bindAddressHardFail }}
- --bind-address-hard-fail
{{- end }}
{{- if $config.masqueradeAll }}
- --masquerade-all
{{- end }}
{{- if $config.masqueradeLocalBackends }}
- --masquerade-local-backends
{{- end }}
{{- if not (kindIs "invalid" $config.defaultLoadBalancer) }}
- --default-load-balancer={{ ternary "on" "off" $config.defaultLoadBalancer }}
{{- end }}
{{- if not (kindIs "invalid" $config.podSockets) }}
- --pod-sockets={{ ternary "on" "off" $config.podSockets }}
{{- end }}
{{- /* YAML reads a bare `off` as false. */ -}}
{{- if kindIs "bool" $config.xdp }}
- --xdp=off
{{- else if $config.xdp }}
- --xdp={{ $config.xdp }}
{{- end }}
{{- if $config.metricsBindAddress }}
- --metrics-bind-address={{ $config.metricsBindAddress }}
{{- else if .Values.prometheus.enabled }}
- --metrics-bind-address=0.0.0.0:{{ .Values.prometheus.port }}
{{- end }}
{{- with .Values.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The port at which metrics are served. */ -}}
{{- define "svc.metricsPort" -}}
{{- with .Values.config.metricsBindAddress }}{{ regexFind "[0-9]+$" . }}{{ else }}{{ .Values.prometheus.port }}{{ end }}
{{- end }}

{{- /* What a probe asks: a path, where health is served. */ -}}
{{- define "svc.probe" -}}
{{- $address := default "0.0.0.0:10256" .address }}
{{- $host := regexReplaceAll ":[0-9]+$" $address "" | trimPrefix "[" | trimSuffix "]" }}
httpGet:
  path: {{ .path }}
  port: {{ regexFind "[0-9]+$" $address }}
  {{- if not (has $host (list "0.0.0.0" "::")) }}
  host: {{ $host | quote }}
  {{- end }}
{{ toYaml .fields }}
{{- end }}
