{{/* serve_config.yaml with what differs on this cluster: the only thing this chart knows of its structure. */}}
{{- define "tutti.serveConfig" -}}
{{- $values := .Values.serve -}}
{{- $config := .Files.Get "files/serve_config.yaml" | fromYaml -}}
{{- if not $config.applications -}}
{{- fail "files/serve_config.yaml is not in the chart: it is a link to the one in the repository's root, so install the chart from a checkout, or package it there" -}}
{{- end -}}
{{- $_ := set $config.http_options "host" "0.0.0.0" -}}
{{- $_ := mergeOverwrite $config.logging_config (deepCopy $values.loggingConfig) -}}
{{- $app := first $config.applications -}}
{{- $_ := mergeOverwrite $app.autoscaling_policy.policy_kwargs (deepCopy $values.policy) -}}
{{- $known := dict -}}
{{- range $app.deployments -}}
{{- $_ := mergeOverwrite . (deepCopy (get $values.deployments .name | default dict)) -}}
{{- $_ := set . "ray_actor_options" (include "tutti.placed" (dict "options" .ray_actor_options "pools" $.Values.pools "kind" "deployments" "name" .name) | fromYaml) -}}
{{- $_ := set $known .name true -}}
{{- end -}}
{{- range $name := keys $values.deployments -}}
{{- if not (hasKey $known $name) -}}
{{- fail (printf "serve.deployments.%s: serve_config.yaml has no such deployment; it has %s" $name (keys $known | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- $models := $app.args.models -}}
{{- range $name, $over := $values.models -}}
{{- if not (hasKey $models $name) -}}
{{- fail (printf "serve.models.%s: serve_config.yaml has no such model; it has %s" $name (keys $models | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $_ := mergeOverwrite (get $models $name) (deepCopy $over) -}}
{{- end -}}
{{- range $name, $model := $models -}}
{{- if $model.enabled -}}
{{- $_ := set $model.deployment "ray_actor_options" (include "tutti.placed" (dict "options" $model.deployment.ray_actor_options "pools" $.Values.pools "kind" "models" "name" $name) | fromYaml) -}}
{{- end -}}
{{- end -}}
{{- range $pool, $its := .Values.pools -}}
{{- range $its.deployments -}}
{{- if not (hasKey $known .) -}}{{- fail (printf "pools.%s.deployments: serve_config.yaml has no %s" $pool .) -}}{{- end -}}
{{- end -}}
{{- range $its.models -}}
{{- if not (hasKey $models .) -}}{{- fail (printf "pools.%s.models: serve_config.yaml has no %s" $pool .) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* Options of an actor with the label of the pools that it may run on. */}}
{{- define "tutti.placed" -}}
{{- $pools := list -}}
{{- range $pool, $its := .pools -}}
{{- if has $.name (get $its $.kind | default list) -}}{{- $pools = append $pools $pool -}}{{- end -}}
{{- end -}}
{{- if not $pools -}}
{{- fail (printf "%s has no place: name it under %s of one of the pools (%s)" .name .kind (keys .pools | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $where := ternary (first $pools) (printf "in(%s)" (join "," $pools)) (eq (len $pools) 1) -}}
{{- toYaml (mergeOverwrite (deepCopy .options) (dict "label_selector" (dict "pool" $where))) -}}
{{- end -}}

{{/* Helm sorts the models by name, so the order of serve_config.yaml does not say any more which is the default one. */}}
{{- define "tutti.defaultModel" -}}
{{- $enabled := list -}}
{{- range $name, $model := (first (include "tutti.serveConfig" . | fromYaml).applications).args.models -}}
{{- if $model.enabled -}}{{- $enabled = append $enabled $name -}}{{- end -}}
{{- end -}}
{{- if ne (len $enabled) 1 -}}
{{- fail (printf "settings.TUTTI_DEFAULT_MODEL: several models are switched on (%s): say which one is meant by requests that name none" (join ", " $enabled)) -}}
{{- end -}}
{{- first $enabled -}}
{{- end -}}

{{/* Seconds after which nothing plays any more on a cluster that gets no new requests. */}}
{{- define "tutti.longestDrain" -}}
{{- $app := first (include "tutti.serveConfig" . | fromYaml).applications -}}
{{- $longest := 0 -}}
{{- range $app.deployments -}}{{- $longest = max $longest (int .graceful_shutdown_timeout_s) -}}{{- end -}}
{{- range $app.args.models -}}{{- $longest = max $longest (int .deployment.graceful_shutdown_timeout_s) -}}{{- end -}}
{{- add $longest 60 -}}
{{- end -}}
