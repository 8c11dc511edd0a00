// Posts a file to a URL by Java's own client, twice over one connection, and prints the second answer.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.time.Duration;

public class Client {
    public static void main(String[] arguments) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(arguments[0]))
            .header("Content-Type", "application/json")
            .timeout(Duration.ofSeconds(20))
            .POST(HttpRequest.BodyPublishers.ofFile(Path.of(arguments[1])))
            .build();
        var client = HttpClient.newHttpClient(); // it asks for HTTP/2 by an upgrade
        client.send(request, HttpResponse.BodyHandlers.ofString());
        System.out.print(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
}
