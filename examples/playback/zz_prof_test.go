package main
import ("testing";"context";"os";"fmt";"io";"time")
func TestStats(t *testing.T){
 set,_:=parse([]string{"-duration","20s"})
 tp,_:=openTape("",1)
 th:=theatre{set:set,accesses:tp,show:newProgress(io.Discard,set,tp)}
 s,err:=th.open(nameDewar); if err!=nil{t.Fatal(err)}
 defer s.close()
 for i:=range acts { a:=&acts[i]; if a.begin!=nil{a.begin(s)}; var m measure; th.perform(context.Background(),s,a,&m)
  fmt.Fprintf(os.Stdout,"%s %+v\n",a.name,newActResult(a.name,0,&m,0,0))
  st:=s.system.(*cached).videos.Stats()
  fmt.Fprintf(os.Stdout,"   %+v\n", st)
  if a.name=="steady" { time.Sleep(200*time.Millisecond); keys,_:=s.redis.client.Keys(context.Background(),"*").Result(); fmt.Println("KEYS",len(keys), s.system.(*cached).videos.Wait(context.Background())) }
 }
}
