# The same as ../template.yaml, for those who use Terraform. The comments there say more.

data "aws_partition" "here" {}
data "aws_region" "here" {}

locals {
  bucket_arn = "arn:${data.aws_partition.here.partition}:s3:::${var.bucket}"

  has_url        = var.front != "http-api"
  has_api        = var.front == "http-api"
  has_cloudfront = var.front == "cloudfront"
  has_api_domain = local.has_api && var.domain != null
  has_record     = var.domain != null && try(var.domain.zone_id, null) != null

  # What is null is left out: a setting that is empty is a mistake.
  settings = {
    HOLDFAST__STORAGE__URL            = "s3://${var.bucket}"
    HOLDFAST__STORAGE__ENCRYPTION     = var.kms_key_arn == null ? null : "aws:kms"
    HOLDFAST__STORAGE__KMS_KEY        = var.kms_key_arn
    HOLDFAST__UPSTREAMS__DEFAULT__URL = var.upstream_url
    HOLDFAST__PACKAGES__PROXY         = var.upstream_url == null ? "false" : "true"
    HOLDFAST__SERVER__PUBLIC_URL      = var.domain == null ? null : "https://${var.domain.name}/"
    HOLDFAST__GITHUB__API_URL         = length(var.github_organizations) == 0 ? null : "https://api.github.com/"
    HOLDFAST__GITHUB__ORGANIZATIONS   = length(var.github_organizations) == 0 ? null : join(",", var.github_organizations)
    HOLDFAST__GITHUB__CLIENT_ID       = var.github_client_id
    HOLDFAST__ACCESS__ADMINS          = length(var.admins) == 0 ? null : join(",", var.admins)
  }

  # Where the function deletes. A package's document is never deleted.
  deleting = [
    "advisories", "attestations", "cache", "catalog", "github", "logins", "store", "tarballs", "token-lists", "tokens", "uploads", "users",
  ]

  # Objects that end by themselves, and after how many days nobody wants them any more.
  expiring = {
    "-/cache/"        = var.cache_days
    "-/uploads/"      = 1
    "-/logins/page-"  = 2
    "-/logins/code-"  = 2
    "-/logins/token-" = 2
    "-/logins/used-"  = 2
  }
}

# --- The bucket: all state there is ---------------------------------------------------------------------------------------

# The packages are worth more than the rest, so Terraform must not destroy it. To be rid of it, take it out of the state first:
# terraform state rm 'module.….aws_s3_bucket.this[0]'
resource "aws_s3_bucket" "this" {
  count  = var.make_bucket ? 1 : 0
  bucket = var.bucket

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  count  = var.make_bucket ? 1 : 0
  bucket = aws_s3_bucket.this[0].id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  count                   = var.make_bucket ? 1 : 0
  bucket                  = aws_s3_bucket.this[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  count  = var.make_bucket ? 1 : 0
  bucket = aws_s3_bucket.this[0].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "this" {
  count  = var.make_bucket ? 1 : 0
  bucket = aws_s3_bucket.this[0].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  count      = var.make_bucket ? 1 : 0
  bucket     = aws_s3_bucket.this[0].id
  depends_on = [aws_s3_bucket_versioning.this]

  rule {
    id     = "replaced-and-deleted-objects"
    status = "Enabled"
    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }

    expiration {
      expired_object_delete_marker = true
    }
  }

  dynamic "rule" {
    for_each = local.expiring

    content {
      id     = trim(replace(rule.key, "/", "-"), "-")
      status = "Enabled"

      filter {
        prefix = rule.key
      }

      expiration {
        days = rule.value
      }

      noncurrent_version_expiration {
        noncurrent_days = 1
      }
    }
  }
}

data "aws_iam_policy_document" "bucket" {
  statement {
    sid       = "NothingWithoutTls"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [local.bucket_arn, "${local.bucket_arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  statement {
    sid       = "NoOldTls"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [local.bucket_arn, "${local.bucket_arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "NumericLessThan"
      variable = "s3:TlsVersion"
      values   = ["1.2"]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  count  = var.make_bucket ? 1 : 0
  bucket = aws_s3_bucket.this[0].id
  policy = data.aws_iam_policy_document.bucket.json
}

# --- The function ---------------------------------------------------------------------------------------------------------

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "function" {
  # Without it S3 answers "denied" for what is not there.
  statement {
    sid       = "TellAbsentFromDenied"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]
  }

  statement {
    sid       = "ReadAndWrite"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    resources = ["${local.bucket_arn}/*"]
  }

  statement {
    sid       = "DeleteWhereThingsEnd"
    actions   = ["s3:DeleteObject"]
    resources = [for prefix in local.deleting : "${local.bucket_arn}/-/${prefix}/*"]
  }

  dynamic "statement" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]

    content {
      sid       = "UseTheKeyThroughS3"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["s3.${data.aws_region.here.region}.${data.aws_partition.here.dns_suffix}"]
      }
    }
  }

  statement {
    sid       = "WriteLogs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this.arn}:*"]
  }
}

resource "aws_iam_role" "this" {
  name               = var.name
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "this" {
  name   = "holdfast"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.function.json
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/holdfast/${var.name}"
  retention_in_days = var.log_days
}

resource "aws_lambda_function" "this" {
  function_name                  = var.name
  description                    = "Holdfast, a private npm registry"
  runtime                        = "provided.al2023"
  handler                        = "bootstrap"
  architectures                  = [var.architecture]
  filename                       = var.zip
  source_code_hash               = filebase64sha256(var.zip)
  role                           = aws_iam_role.this.arn
  memory_size                    = var.memory
  timeout                        = var.timeout
  reserved_concurrent_executions = var.reserved_concurrency
  depends_on                     = [aws_iam_role_policy.this]

  logging_config {
    log_group  = aws_cloudwatch_log_group.this.name
    log_format = "Text"
  }

  environment {
    variables = merge(
      { for name, value in local.settings : name => value if value != null },
      # Apart, since Terraform decides nothing by a secret.
      var.github_client_id == null ? {} : { HOLDFAST__GITHUB__CLIENT_SECRET = var.github_client_secret },
      var.environment,
    )
  }
}

# --- The way in: a function URL (also behind CloudFront) -------------------------------------------------------------------

resource "aws_lambda_function_url" "this" {
  count              = local.has_url ? 1 : 0
  function_name      = aws_lambda_function.this.function_name
  authorization_type = "NONE"
  invoke_mode        = "BUFFERED"
}

# Since October 2025 a function URL needs both permissions.
resource "aws_lambda_permission" "url_may_call" {
  count                  = local.has_url ? 1 : 0
  statement_id           = "UrlMayCall"
  function_name          = aws_lambda_function.this.function_name
  action                 = "lambda:InvokeFunctionUrl"
  principal              = "*"
  function_url_auth_type = "NONE"
}

resource "aws_lambda_permission" "url_may_invoke" {
  count                    = local.has_url ? 1 : 0
  statement_id             = "UrlMayInvoke"
  function_name            = aws_lambda_function.this.function_name
  action                   = "lambda:InvokeFunction"
  principal                = "*"
  invoked_via_function_url = true
}

# --- The way in: an HTTP API ----------------------------------------------------------------------------------------------

resource "aws_apigatewayv2_api" "this" {
  count                        = local.has_api ? 1 : 0
  name                         = var.name
  protocol_type                = "HTTP"
  disable_execute_api_endpoint = var.domain != null
}

resource "aws_apigatewayv2_integration" "this" {
  count                  = local.has_api ? 1 : 0
  api_id                 = aws_apigatewayv2_api.this[0].id
  integration_type       = "AWS_PROXY"
  integration_uri        = aws_lambda_function.this.invoke_arn
  payload_format_version = "2.0"
}

resource "aws_apigatewayv2_route" "this" {
  count     = local.has_api ? 1 : 0
  api_id    = aws_apigatewayv2_api.this[0].id
  route_key = "$default"
  target    = "integrations/${aws_apigatewayv2_integration.this[0].id}"
}

resource "aws_apigatewayv2_stage" "this" {
  count       = local.has_api ? 1 : 0
  api_id      = aws_apigatewayv2_api.this[0].id
  name        = "$default"
  auto_deploy = true
}

resource "aws_lambda_permission" "api_may_invoke" {
  count         = local.has_api ? 1 : 0
  statement_id  = "ApiMayInvoke"
  function_name = aws_lambda_function.this.function_name
  action        = "lambda:InvokeFunction"
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.this[0].execution_arn}/*"
}

resource "aws_apigatewayv2_domain_name" "this" {
  count       = local.has_api_domain ? 1 : 0
  domain_name = var.domain.name

  domain_name_configuration {
    certificate_arn = var.domain.certificate_arn
    endpoint_type   = "REGIONAL"
    security_policy = "TLS_1_2"
  }
}

resource "aws_apigatewayv2_api_mapping" "this" {
  count       = local.has_api_domain ? 1 : 0
  api_id      = aws_apigatewayv2_api.this[0].id
  domain_name = aws_apigatewayv2_domain_name.this[0].id
  stage       = aws_apigatewayv2_stage.this[0].id
}

# --- The way in: CloudFront -----------------------------------------------------------------------------------------------

# No origin access control: it signs in Authorization, in place of npm's token, and wants a hash of each body from the client.
resource "aws_cloudfront_cache_policy" "this" {
  count       = local.has_cloudfront ? 1 : 0
  name        = "${var.name}-${data.aws_region.here.region}"
  min_ttl     = 0
  default_ttl = 0
  max_ttl     = 31536000

  parameters_in_cache_key_and_forwarded_to_origin {
    enable_accept_encoding_brotli = true
    enable_accept_encoding_gzip   = true

    cookies_config {
      cookie_behavior = "none"
    }

    query_strings_config {
      query_string_behavior = "all"
    }

    # Authorization in the key: what one caller may read is not handed to another, and it is the only way to pass the header on.
    headers_config {
      header_behavior = "whitelist"

      headers {
        items = ["Authorization", "Accept"]
      }
    }
  }
}

resource "aws_cloudfront_distribution" "this" {
  count           = local.has_cloudfront ? 1 : 0
  enabled         = true
  comment         = "Holdfast: ${var.domain.name}"
  aliases         = [var.domain.name]
  http_version    = "http2and3"
  is_ipv6_enabled = true

  origin {
    origin_id   = "function"
    domain_name = split("/", aws_lambda_function_url.this[0].function_url)[2]

    custom_origin_config {
      http_port              = 80
      https_port             = 443
      origin_protocol_policy = "https-only"
      origin_ssl_protocols   = ["TLSv1.2"]
      origin_read_timeout    = 60
    }
  }

  default_cache_behavior {
    target_origin_id       = "function"
    viewer_protocol_policy = "https-only"
    allowed_methods        = ["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"]
    cached_methods         = ["GET", "HEAD"]
    compress               = false
    cache_policy_id        = aws_cloudfront_cache_policy.this[0].id
    # AllViewerExceptHostHeader, one of CloudFront's own: a function URL answers to its own host name only.
    origin_request_policy_id = "b689b0a8-53d0-40ab-baf2-68738e2966ac"
  }

  # By itself CloudFront would keep "not found" for ten seconds: too long after a publish.
  dynamic "custom_error_response" {
    for_each = [403, 404, 500, 502, 503, 504]

    content {
      error_code            = custom_error_response.value
      error_caching_min_ttl = 0
    }
  }

  viewer_certificate {
    acm_certificate_arn      = var.domain.certificate_arn
    ssl_support_method       = "sni-only"
    minimum_protocol_version = "TLSv1.2_2021"
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }
}

resource "aws_route53_record" "this" {
  count   = local.has_record ? 1 : 0
  zone_id = var.domain.zone_id
  name    = var.domain.name
  type    = "A"

  alias {
    name                   = local.has_api ? aws_apigatewayv2_domain_name.this[0].domain_name_configuration[0].target_domain_name : aws_cloudfront_distribution.this[0].domain_name
    zone_id                = local.has_api ? aws_apigatewayv2_domain_name.this[0].domain_name_configuration[0].hosted_zone_id : aws_cloudfront_distribution.this[0].hosted_zone_id
    evaluate_target_health = false
  }
}

# --- Who is told ----------------------------------------------------------------------------------------------------------

locals {
  function_alarms = {
    errors    = { metric = "Errors", statistic = "Sum", threshold = 1, says = "The function broke off or ran out of time. Look into its log." }
    throttles = { metric = "Throttles", statistic = "Sum", threshold = 1, says = "Requests were turned away, since more came at once than is allowed." }
    duration  = { metric = "Duration", statistic = "Maximum", threshold = var.timeout * 1000 * 5 / 6, says = "A request took nearly as long as the time-out allows." }
  }
}

resource "aws_cloudwatch_metric_alarm" "function" {
  for_each            = length(var.alarm_topic_arns) == 0 ? {} : local.function_alarms
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.says
  namespace           = "AWS/Lambda"
  metric_name         = each.value.metric
  dimensions          = { FunctionName = aws_lambda_function.this.function_name }
  statistic           = each.value.statistic
  period              = 300
  evaluation_periods  = 1
  threshold           = each.value.threshold
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}

# Five in five minutes, twice in a row: a single 502 of an upstream is no reason to wake anybody.
resource "aws_cloudwatch_metric_alarm" "server_errors" {
  count               = length(var.alarm_topic_arns) == 0 ? 0 : 1
  alarm_name          = "${var.name}-5xx"
  alarm_description   = "The registry answers with 5xx. Look into the function's log."
  namespace           = local.has_api ? "AWS/ApiGateway" : "AWS/Lambda"
  metric_name         = local.has_api ? "5xx" : "Url5xxCount"
  dimensions          = local.has_api ? { ApiId = aws_apigatewayv2_api.this[0].id } : { FunctionName = aws_lambda_function.this.function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 2
  threshold           = 5
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}
