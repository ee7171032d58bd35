output "registry_url" {
  description = "For `npm config set registry`."
  value = (
    var.domain != null ? "https://${var.domain.name}/" :
    local.has_api ? "${aws_apigatewayv2_api.this[0].api_endpoint}/" :
    aws_lambda_function_url.this[0].function_url
  )
}

output "function_name" {
  value = aws_lambda_function.this.function_name
}

output "log_group_name" {
  value = aws_cloudwatch_log_group.this.name
}

output "domain_target" {
  description = "What the domain has to be an alias of, where no zone is given."
  value = (
    local.has_cloudfront ? aws_cloudfront_distribution.this[0].domain_name :
    local.has_api_domain ? aws_apigatewayv2_domain_name.this[0].domain_name_configuration[0].target_domain_name :
    null
  )
}
