<?php
// A function for PHP's built-in server; prints what it gets.
$headers = [];
foreach ($_SERVER as $name => $value) {
    if (str_starts_with($name, 'HTTP_')) {
        $headers[strtolower(str_replace('_', '-', substr($name, 5)))] = $value;
    }
}
$line = ['headers' => $headers, 'body' => base64_encode(file_get_contents('php://input')), 'status' => 200];
file_put_contents('php://stdout', json_encode($line) . "\n");
echo "ok\n";
